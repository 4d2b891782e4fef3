"""One verb a file: what a request asks becomes reads of watch_cache or writes of registry.

    body.py       bytes to objects: content types, strictness, options
    forms.py      objects to bytes: JSON, table, metadata only; whole, listed or watched
    get.py list.py watch.py create.py update.py patch.py apply.py delete.py
    manager.py    whose a write is: fieldManager, or the program that sent it
    subresources.py  scale, binding, eviction, token, finalize, approval: writes with rules of their own
    reviews.py    questions: access reviews, token reviews
Called by pipeline once a request is authorized.
"""
