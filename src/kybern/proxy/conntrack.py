"""Forget UDP flows that still go where they no longer should.

Called by sync.py after the rules changed: the kernel translates a UDP flow as it did its first packet, for as
long as packets come, whatever became of the endpoint. TCP needs none of this: its endpoint resets. `find_stale` is
pure; `Conntrack` asks the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import structlog

from kybern.proxy.endpoints import Target
from kybern.proxy.ruleset import Frontend, ServicePlan

UDP = 17
_ONE_BY_ONE = 32  # frontends up to which the kernel is asked for each alone

log = structlog.get_logger(__name__)


class Flow(NamedTuple):
    """One tracked UDP flow: what the client sent to, and who answers."""

    source: Target
    destination: Target
    answerer: Target


class Forgetter(Protocol):
    """What the proxy asks of connection tracking."""

    async def forget(self, frontends: Mapping[Frontend, frozenset[Target]], node_ips: frozenset[str]) -> int:
        """Delete the flows of these frontends that go elsewhere than allowed; how many. Never raises."""
        ...


def find_changed(old: ServicePlan, new: ServicePlan) -> dict[Frontend, frozenset[Target]]:
    """Frontends that may have stale flows after `new` replaced `old`, with what is allowed now."""
    changed = {}
    for frontend in old.udp.keys() | new.udp.keys():
        before = old.udp.get(frontend, frozenset())
        now = new.udp.get(frontend, frozenset())
        # With no endpoint before, clients' packets were tracked without translation.
        if not before or before - now:
            changed[frontend] = now
    return changed


def find_stale(
    flows: Iterable[Flow], frontends: Mapping[Frontend, frozenset[Target]], node_ips: frozenset[str]
) -> list[Flow]:
    """The flows to delete."""
    stale = []
    for flow in flows:
        to = flow.destination
        allowed = frontends.get(Frontend(to.ip, to.port))
        if allowed is None and (to.ip in node_ips or flow.answerer != to):
            # A port number alone says nothing about other hosts' ports: ours is local, or translated.
            allowed = frontends.get(Frontend("", to.port))
        if allowed is not None and flow.answerer not in allowed:
            stale.append(flow)
    return stale


class Conntrack:
    """`Forgetter` by netlink, in a thread."""

    async def forget(self, frontends: Mapping[Frontend, frozenset[Target]], node_ips: frozenset[str]) -> int:
        try:
            return await asyncio.to_thread(_forget, frontends, node_ips)
        except OSError as error:
            log.warning("could not clean up UDP flows", error=str(error))
            return 0


def _forget(frontends: Mapping[Frontend, frozenset[Target]], node_ips: frozenset[str]) -> int:
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

    if len(frontends) <= _ONE_BY_ONE:
        filters = [NFCTAttrTuple(proto=UDP, daddr=f.ip or None, dport=f.port) for f in frontends]
    else:
        filters = [NFCTAttrTuple(proto=UDP)]
    count = 0
    with NFCTSocket() as conntrack:
        flows = [_parse(message) for wanted in filters for message in conntrack.dump(tuple_orig=wanted)]
        for flow in find_stale(dict.fromkeys(f for f in flows if f), frontends, node_ips):
            original = NFCTAttrTuple(
                saddr=flow.source.ip,
                sport=flow.source.port,
                daddr=flow.destination.ip,
                dport=flow.destination.port,
                proto=UDP,
            )
            try:
                conntrack.entry("del", tuple_orig=original)
                count += 1
            except NetlinkError as error:
                if error.code != 2:  # ENOENT: it expired meanwhile
                    raise OSError(error.code, f"deleting a UDP flow: {error}") from error
    return count


def _parse(message: Any) -> Flow | None:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

    original, reply = message.get_attr("CTA_TUPLE_ORIG"), message.get_attr("CTA_TUPLE_REPLY")
    # The kernel's filter leaves through what it does not know: look again.
    if original is None or reply is None or message["nfgen_family"] != socket.AF_INET:
        return None
    there = NFCTAttrTuple.from_netlink(socket.AF_INET, original)
    back = NFCTAttrTuple.from_netlink(socket.AF_INET, reply)
    if there.proto != UDP:
        return None
    return Flow(Target(there.saddr, there.sport), Target(there.daddr, there.dport), Target(back.saddr, back.sport))
