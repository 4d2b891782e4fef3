"""Server-side apply: objects as typed values, who owns which of their fields, and what an apply makes of them.

    schema.py        OpenAPI -> Node: how a type merges
    fields.py        sets of fields, as fieldsV1 tells them
    typed.py         does a value fit its type, and which fields does it set
    compare.py       two values -> what was added, modified, removed
    first.py         what a new object sets, for the hot path
    combine.py       merge what is applied into what is live; take out what nobody owns
    managers.py      metadata.managedFields <-> managers
    rules.py         update and apply
    last_applied.py  the way from client-side apply
    errors.py        conflicts, and values that do not fit

Pure. Called by apiserver/registry/ownership. Source: "Server-Side Apply" in the Kubernetes documentation.
"""
