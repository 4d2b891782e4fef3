"""Aggregation: other API servers behind this one, and the APIService objects that say which.

remote.py        an APIService as a row: what is served elsewhere, where and whom to trust; priorities
local.py         APIServices for what is served here: built-in groups and those of custom resources
availability.py  is a server reachable? Conditions, judged from Services and EndpointSlices
backend.py       connections to such servers, with the front proxy's certificate and the user in headers
routes.py        from a request to the server that answers it, and its answer back
discovery.py     what such servers offer, for the merged discovery documents
reconcile.py     the loop that keeps all this up to date
"""
