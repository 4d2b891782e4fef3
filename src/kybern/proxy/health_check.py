"""Tell external load balancers whether this node has endpoints: one HTTP listener a healthCheckNodePort.

Told by sync.py what to serve; `run` opens and closes listeners. A port that cannot be had is tried again with the
next change, and every half minute.
Source: "Services: externalTrafficPolicy and health check node port" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from kybern.machinery.clock import Clock
from kybern.proxy.ruleset import ServiceName
from kybern.wire.http1.server import Server, serve
from kybern.wire.message import Request, Response

_RETRY = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """What is said at one port."""

    service: ServiceName
    local_endpoints: int


def answer(checked: Checked, is_proxy_healthy: bool) -> Response:
    """200 if this node should get traffic for the Service, else 503."""
    body = {
        "service": {"namespace": checked.service.namespace, "name": checked.service.name},
        "localEndpoints": checked.local_endpoints,
        "serviceProxyHealthy": is_proxy_healthy,
    }
    return Response(
        status=200 if checked.local_endpoints and is_proxy_healthy else 503,
        body=msgspec.json.encode(body),
        headers=(
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", str(checked.local_endpoints)),
        ),
    )


class HealthChecks:
    """The listeners of this node."""

    def __init__(self, clock: Clock, address: str = "0.0.0.0") -> None:
        self._clock = clock
        self._address = address
        self._wanted: Mapping[int, Checked] = {}
        self._servers: dict[int, Server[Request]] = {}
        self._changed = asyncio.Event()

    def show(self, wanted: Mapping[int, Checked]) -> None:
        """What to say from now on, by port."""
        self._wanted = wanted
        self._changed.set()

    async def run(self, is_proxy_healthy: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                for port in [p for p in self._servers if p not in self._wanted]:
                    await self._servers.pop(port).close(grace=0.0)
                refused = [
                    not await self._open(port, tasks, is_proxy_healthy)
                    for port in self._wanted
                    if port not in self._servers
                ]
                try:
                    async with asyncio.timeout(_RETRY if any(refused) else None):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def _open(self, port: int, tasks: asyncio.TaskGroup, is_healthy: Callable[[], bool]) -> bool:
        def application(_request: Request) -> Response:
            checked = self._wanted.get(port)
            return answer(checked, is_healthy()) if checked else Response(404)

        try:
            self._servers[port] = await serve(
                application, request_type=Request, tasks=tasks, clock=self._clock, host=self._address, port=port
            )
        except OSError as error:
            log.warning("cannot serve a health check", port=port, error=str(error))
            return False
        return True
