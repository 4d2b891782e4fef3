"""The small HTTP server of components other than the API server: /healthz, /livez, /readyz, /metrics.

Started by a component's composition root as one task of its TaskGroup; answers until cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import generate_latest

from kybern.client.clock import RealClock
from kybern.wire.http1.server import serve
from kybern.wire.message import Request, Response

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def serve_health(address: str, port: int, checks: Callable[[], dict[str, str]]) -> None:
    """Serve on `address`:`port`. `checks` gives each check's name with "" (fine) or what is wrong."""

    def application(request: Request) -> Response:
        path = request.path.rstrip("/")
        if path == "/metrics":
            return Response(body=generate_latest(), content_type=_METRICS_TYPE)
        if path == "/livez":
            return _text(200, "ok")
        if path in ("/healthz", "/readyz"):
            return _verdict(checks(), "verbose" in request.query)
        return _text(404, "404 page not found\n")

    async with asyncio.TaskGroup() as tasks:
        server = await serve(application, request_type=Request, tasks=tasks, clock=RealClock(), host=address, port=port)
        try:
            await asyncio.Event().wait()
        finally:
            await server.close(grace=0)


def _verdict(checks: dict[str, str], verbose: bool) -> Response:
    failed = any(checks.values())
    if not failed and not verbose:
        return _text(200, "ok")
    lines = [f"[-]{name} failed: {fault}" if fault else f"[+]{name} ok" for name, fault in checks.items()]
    return _text(500 if failed else 200, "\n".join(lines) + "\n")


def _text(status: int, text: str) -> Response:
    return Response(status=status, body=text.encode(), content_type="text/plain; charset=utf-8")
