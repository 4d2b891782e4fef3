"""The API server's memory: every object as the JSON bytes that clients get.

`feed` follows the store and keeps one `cache.ResourceCache` a resource; `hub` fans events out to watchers.

    entry.py   one object: bytes with its resourceVersion, labels, selectable fields
    cache.py   the objects of one resource, by key and namespace, and its recent events
    feed.py    one watch on the store, spread over the caches in order of revision
    hub.py     watchers grouped by scope; one frame an event and form, shared by all
"""
