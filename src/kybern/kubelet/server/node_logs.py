"""The node's own log directory over HTTP: /logs/<path>, a listing or a file.

Called by application (route /logs/). Nothing outside the directory is served, whatever links or dots say.
"""

from __future__ import annotations

import asyncio
import html
import os
import stat
import urllib.parse
from pathlib import Path

from kybern.machinery.status import ApiError
from kybern.wire.message import Response, Sink, StreamResponse

_PIECE = 256 * 1024


async def serve_path(root: Path, tail: str) -> Response | StreamResponse:
    """`tail` is relative to `root`. Raises ApiError (404)."""
    path = await asyncio.to_thread(_resolve, root, tail)
    if path.is_dir():
        return Response(200, await asyncio.to_thread(_render_listing, path), "text/html; charset=utf-8")

    async def send(sink: Sink) -> None:
        with path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, _PIECE):
                sink.write(data)
                await sink.drain()

    return StreamResponse(send, content_type="text/plain; charset=utf-8")


def _resolve(root: Path, tail: str) -> Path:
    base = root.resolve()
    try:
        path = (base / tail.lstrip("/")).resolve(strict=True)
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError):
        raise ApiError.make(404, "NotFound", "404 page not found") from None
    if not path.is_relative_to(base) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ApiError.make(404, "NotFound", "404 page not found")
    return path


def _render_listing(path: Path) -> bytes:
    lines = ["<pre>"]
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = entry.name + ("/" if entry.is_dir() else "")
            lines.append(f'<a href="{urllib.parse.quote(name)}">{html.escape(name)}</a>')
    return "\n".join([*lines, "</pre>", ""]).encode("utf-8", "replace")
