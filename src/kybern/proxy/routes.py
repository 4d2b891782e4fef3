"""Routes to the pods of other nodes, where the nodes share a link: one host route a podCIDR.

Built by process/proxy; `plan_routes` is pure, `RouteTable` asks the kernel, `RouteKeeper` follows the Nodes.
Touches only routes that carry our protocol number, so that what people and other programs set stays.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from kybern.api.core_v1 import Node
from kybern.client.informer import Informer
from kybern.machinery.clock import Clock

PROTOCOL = 75  # of our routes; free in /etc/iproute2/rt_protos
_PAUSE = 0.5  # seconds between two looks when Nodes change often
_PERIOD = 30.0

log = structlog.get_logger(__name__)

Routes = Mapping[str, str]
"""Gateway by destination, both IPv4."""


def plan_routes(nodes: Iterable[Node], own_name: str) -> dict[str, str]:
    """Where the pods of each other node are. Nodes that share an address (simulated ones) need no route."""
    others, own = [], set()
    for node in nodes:
        addresses = [a.address for a in node.status.addresses if a.type == "InternalIP" and _is_ipv4(a.address)]
        if node.metadata.name == own_name:
            own.update(addresses)
        elif addresses:
            others.append((addresses[0], node.spec.podCIDRs or [node.spec.podCIDR or ""]))
    wanted: dict[str, str] = {}
    for gateway, networks in others:
        if gateway not in own:
            wanted.update({text: gateway for text in map(_network, networks) if text})
    return wanted


def _is_ipv4(text: str) -> bool:
    try:
        return not ipaddress.IPv4Address(text).is_loopback
    except ValueError:
        return False


def _network(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError:
        return ""


class RouteTable:
    """The kernel's main table, as far as it is ours."""

    def __init__(self) -> None:
        self._complained: set[str] = set()

    async def apply(self, wanted: Routes) -> None:
        """Add, change and remove until ours are `wanted`. What the kernel refuses is logged once, not raised."""
        try:
            refused = await asyncio.to_thread(_apply, wanted)
        except OSError as error:
            log.warning("could not set routes", error=str(error))
            return
        for destination, reason in refused.items():
            if destination not in self._complained:
                log.warning("the kernel refused a route", to=destination, via=wanted.get(destination), error=reason)
        self._complained = set(refused)


def _apply(wanted: Routes) -> dict[str, str]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    refused = {}
    with IPRoute() as routes:
        existing = dict(_ours(routes))
        for destination, gateway in existing.items():
            if destination not in wanted:
                routes.route("del", dst=destination, gateway=gateway, proto=PROTOCOL)
        for destination, gateway in wanted.items():
            if existing.get(destination) != gateway:
                try:
                    routes.route("replace", dst=destination, gateway=gateway, proto=PROTOCOL)
                except NetlinkError as error:
                    refused[destination] = str(error)
    return refused


def _ours(routes: Any) -> Iterable[tuple[str, str]]:
    for route in routes.get_routes(family=socket.AF_INET, proto=PROTOCOL):
        destination, gateway = route.get_attr("RTA_DST"), route.get_attr("RTA_GATEWAY")
        if route["proto"] == PROTOCOL and destination and gateway:
            yield f"{destination}/{route['dst_len']}", gateway


class RouteKeeper:
    """Follows the Nodes."""

    def __init__(self, nodes: Informer[Node], own_name: str, table: RouteTable, clock: Clock) -> None:
        self._nodes = nodes
        self._own_name = own_name
        self._table = table
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Routes are looked at anew with each change of a plan, and every half minute."""
        await self._nodes.wait_synced()
        self._nodes.on_change(lambda _old, _new: self._changed.set())
        planned: Routes | None = None
        looked = self._clock.monotonic()
        while True:
            self._changed.clear()
            wanted = plan_routes(self._nodes.list(), self._own_name)
            if wanted != planned or self._clock.monotonic() - looked >= _PERIOD:
                await self._table.apply(wanted)
                planned, looked = wanted, self._clock.monotonic()
            await self._clock.sleep(_PAUSE)
            try:
                async with asyncio.timeout(_PERIOD):
                    await self._changed.wait()
            except TimeoutError:
                continue
