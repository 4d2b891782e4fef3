"""WebSocket (RFC 6455): the handshake of both ends, and messages over a connection."""
