"""Put endpoints into slices so that few slices change. Pure.

Used by the plans of endpointslice and endpointslice_mirroring. Endpoints stay where they are; new ones fill slices
that change anyway, then one with room, then new ones; slices left empty go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kybern.api import codec
from kybern.api.discovery_v1 import Endpoint, EndpointPort, EndpointSlice

PortKey = tuple[tuple[str, int, str, str], ...]  # name, number (0: none), protocol, appProtocol


@dataclass(slots=True)
class Group:
    """Endpoints that may share a slice: of one address family, with the same ports."""

    address_type: str
    ports: PortKey
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # by identity (see `identity_of`)


@dataclass(frozen=True, slots=True)
class Changes:
    create: tuple[EndpointSlice, ...] = ()
    update: tuple[EndpointSlice, ...] = ()
    delete: tuple[EndpointSlice, ...] = ()


def port_key(ports: Sequence[EndpointPort]) -> PortKey:
    return tuple(sorted((p.name or "", p.port or 0, p.protocol or "TCP", p.appProtocol or "") for p in ports))


def render_ports(key: PortKey) -> list[EndpointPort]:
    return [
        EndpointPort(name=name, port=number or None, protocol=protocol, appProtocol=app or None)
        for name, number, protocol, app in key
    ]


def identity_of(endpoint: Endpoint) -> str:
    """The same in every version of an endpoint."""
    target = endpoint.targetRef.uid if endpoint.targetRef is not None else ""
    return f"{','.join(endpoint.addresses)}|{target}|{endpoint.hostname or ''}"


def pack(
    groups: Sequence[Group],
    existing: Sequence[EndpointSlice],
    new_slice: Callable[[str, PortKey], EndpointSlice],
    refresh: Callable[[EndpointSlice], None],
    limit: int,
    placeholder: tuple[str, ...] = (),
) -> Changes:
    """`new_slice(address type, ports)` makes an empty slice; `refresh` corrects the metadata of one that is kept.

    `placeholder`: address types that keep one slice even without endpoints.
    """
    create: list[EndpointSlice] = []
    update: list[EndpointSlice] = []
    delete: list[EndpointSlice] = []
    by_kind: dict[tuple[str, PortKey], list[EndpointSlice]] = {}
    for found in existing:
        by_kind.setdefault((found.addressType, port_key(found.ports)), []).append(found)
    filled = {group.address_type for group in groups if group.endpoints}
    wanted = [group for group in groups if group.endpoints]
    wanted += [Group(kind, ()) for kind in placeholder if kind not in filled]
    for group in wanted:
        have = by_kind.pop((group.address_type, group.ports), [])
        made, changed, dropped = _pack_group(group, have, new_slice, refresh, limit, keep_one=not group.endpoints)
        create += made
        update += changed
        delete += dropped
    delete += [found for left in by_kind.values() for found in left]
    return Changes(tuple(create), tuple(update), tuple(delete))


def _pack_group(
    group: Group,
    have: list[EndpointSlice],
    new_slice: Callable[[str, PortKey], EndpointSlice],
    refresh: Callable[[EndpointSlice], None],
    limit: int,
    *,
    keep_one: bool,
) -> tuple[list[EndpointSlice], list[EndpointSlice], list[EndpointSlice]]:
    missing = dict(group.endpoints)
    kept: list[tuple[EndpointSlice, list[Endpoint]]] = []
    for found in have:
        stay = []
        for endpoint in found.endpoints:
            wanted = missing.pop(identity_of(endpoint), None)
            if wanted is not None:
                stay.append(wanted)
        kept.append((found, stay))
    queue = list(missing.values())
    for found, stay in kept:  # first those that are written anyway
        if stay and stay != found.endpoints:
            _fill(stay, queue, limit)
    for _, stay in sorted(kept, key=lambda pair: -len(pair[1])):  # then the fullest with room
        if stay or queue:
            _fill(stay, queue, limit)
    create: list[EndpointSlice] = []
    update: list[EndpointSlice] = []
    delete: list[EndpointSlice] = []
    for found, stay in kept:
        if not stay and not (keep_one and len(delete) == len(kept) - 1):
            delete.append(found)
            continue
        fresh = codec.clone(found)
        fresh.endpoints = stay
        refresh(fresh)
        if fresh != found:
            update.append(fresh)
    while queue or (keep_one and not kept and not create):
        made = new_slice(group.address_type, group.ports)
        made.endpoints, queue = queue[:limit], queue[limit:]
        create.append(made)
    return create, update, delete


def _fill(stay: list[Endpoint], queue: list[Endpoint], limit: int) -> None:
    room = max(0, limit - len(stay))
    stay.extend(queue[:room])
    del queue[:room]
