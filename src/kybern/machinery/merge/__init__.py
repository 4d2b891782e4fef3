"""How a PATCH changes a JSON value: one module a format, each `apply(document, patch, ...) -> document`.

json_patch (RFC 6902), merge_patch (RFC 7386), strategic (Kubernetes' own); structured/ is server-side apply. Called by
the API server's handlers and by the CLI. Pure: arguments are never changed, results may share parts with them. errors
says what can fail.
"""
