"""Bytes on a connection: the HTTP/1.1 server, TLS contexts, WebSocket channels and SPDY frames.

Below every component and above machinery, because the API server and the kubelet both serve HTTP and both
speak the streaming protocols of exec and port-forward (docs/decisions/0002-wire.md).
"""
