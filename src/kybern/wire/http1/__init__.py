"""HTTP/1.1, served: `serve(application, ...)`. See the README for the files."""

from kybern.wire.http1.body import LAST_CHUNK, frame_chunk
from kybern.wire.http1.limits import Limits
from kybern.wire.http1.server import Server, listen, serve

__all__ = ["LAST_CHUNK", "Limits", "Server", "frame_chunk", "listen", "serve"]
