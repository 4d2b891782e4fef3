"""The cluster's names: Services and EndpointSlices as an index, and the answer to one question.

Filled by process/dns from informers; asked by answer.py. Pure: no clock, no loop, no sockets; the order of records
is that of the objects (answer.py turns them). Promises every answer the specification asks for, and for all
other names under the domain "no such name" or "no such data" as RFC 8020 has it: a name with something below exists.
Source: "Kubernetes DNS-Based Service Discovery", version 1.1.0.

    <service>.<ns>.svc                  A AAAA, CNAME (ExternalName), SRV of all ports
    _<port>._<protocol>.<service>...    SRV
    <hostname or dashed IP>.<service>.. A AAAA of one endpoint of a headless Service
    <dashed IP>.<ns>.pod                A AAAA
    dns-version                         TXT
    ....in-addr.arpa ....ip6.arpa       PTR
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import Endpoint, EndpointSlice

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
SCHEMA_VERSION = "1.1.0"
SRV_WEIGHT = 100  # shared by the endpoints of a port
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})

Name = tuple[str, ...]
"""Labels in lower case, the leaf first, without the root: `("web", "default", "svc", "cluster", "local")`."""


class Kind(enum.IntEnum):
    """Types of records, by their numbers (RFC 1035, 2782, 3596)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    ANY = 255


class Srv(NamedTuple):
    """Where a port is served."""

    weight: int
    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `owner` None: the name that was asked for, in the asker's spelling."""

    kind: Kind
    data: str | Name | Srv
    owner: Name | None = None


class Outcome(enum.Enum):
    """What the zone knows of a name."""

    FOUND = "found"  # the records are all there are of this kind; none: no such data
    NO_NAME = "no such name"
    NOT_OURS = "not ours"  # ask elsewhere


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say. `chase` is a name outside the zone whose addresses the asker needs as well."""

    outcome: Outcome
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    chase: str = ""


NOT_OURS = Answer(Outcome.NOT_OURS)
NO_NAME = Answer(Outcome.NO_NAME)
NO_DATA = Answer(Outcome.FOUND)


class Key(NamedTuple):
    """Which Service."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class _Member:
    """One ready endpoint of a Service, as DNS names it."""

    label: str
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, str, int], ...]  # name, protocol, number


class Zone:
    """Every name under `domain`, and the reverse names of addresses in the cluster."""

    def __init__(self, domain: str = "cluster.local", nameserver: str = "") -> None:
        self.domain: Name = parse_name(domain)
        self.nameserver = nameserver  # its address
        self.is_complete = True  # False: not everything is known yet, so that "no" would be a guess
        self.version = 0  # rises with each change: answers of another version are stale
        self._namespaces: set[str] = set()
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, dict[str, EndpointSlice]] = {}
        self._owners: dict[tuple[str, str], Key] = {}  # of slices, by namespace and name
        self._by_address: dict[str, dict[Key, int]] = {}  # counts: an address may be in two slices

    # filling
    def set_namespace(self, name: str, exists: bool) -> None:
        (self._namespaces.add if exists else self._namespaces.discard)(name)
        self.version += 1

    def set_service(self, key: Key, service: Service | None) -> None:
        """What is true of the Service now; None: it is gone."""
        old = self._services.pop(key, None)
        if service is not None:
            self._services[key] = service
        self._count(key, _cluster_ips(old) if old else (), -1)
        self._count(key, _cluster_ips(service) if service else (), 1)
        self.version += 1

    def set_slice(self, namespace: str, name: str, piece: EndpointSlice | None) -> None:
        """What is true of the slice now; None: it is gone. Its Service may be known or not yet."""
        before = self._owners.pop((namespace, name), None)
        if before is not None:
            pieces = self._slices[before]
            self._count(before, _addresses_of(pieces.pop(name)), -1)
            if not pieces:
                del self._slices[before]
        owner = piece.metadata.labels.get(SERVICE_NAME_LABEL, "") if piece is not None else ""
        if piece is not None and owner:
            key = Key(namespace, owner)
            self._slices.setdefault(key, {})[name] = piece
            self._owners[namespace, name] = key
            self._count(key, _addresses_of(piece), 1)
        self.version += 1

    def _count(self, key: Key, addresses: Iterable[str], step: int) -> None:
        for address in addresses:
            owners = self._by_address.setdefault(address, {})
            owners[key] = owners.get(key, 0) + step
            if owners[key] <= 0:
                del owners[key]
            if not owners:
                del self._by_address[address]

    # asking
    def lookup(self, name: Name, kind: int) -> Answer:
        """The answer to one question of class IN. `name` in lower case."""
        depth = len(name) - len(self.domain)
        if depth >= 0 and name[depth:] == self.domain:
            return self._lookup_inside(name[:depth], kind)
        if name[-2:] in (("in-addr", "arpa"), ("ip6", "arpa")):
            return self._lookup_reverse(name, kind)
        return NOT_OURS

    def _lookup_inside(self, labels: Name, kind: int) -> Answer:
        match labels:
            case ():
                apex = [Record(Kind.NS, ("ns", "dns", *self.domain)), Record(Kind.SOA, ())]
                return _only(apex, kind)
            case ("dns-version",):
                return _only([Record(Kind.TXT, SCHEMA_VERSION)], kind)
            case ("dns",):
                return NO_DATA
            case ("ns", "dns"):
                return _only(_address_records([self.nameserver] if self.nameserver else []), kind)
            case ("svc",) | ("pod",):
                return NO_DATA
            case (namespace, "svc" | "pod"):
                return NO_DATA if namespace in self._namespaces else NO_NAME
            case (address, namespace, "pod"):
                return self._lookup_pod(address, namespace, kind)
            case (*below, service, namespace, "svc"):
                return self._lookup_service(Key(namespace, service), tuple(below), kind)
        return NO_NAME

    def _lookup_pod(self, text: str, namespace: str, kind: int) -> Answer:
        address = _undash(text)
        if not address or namespace not in self._namespaces:
            return NO_NAME
        return _only(_address_records([address]), kind)

    def _lookup_service(self, key: Key, below: Name, kind: int) -> Answer:
        service = self._services.get(key)
        if service is None:
            return NO_NAME
        if service.spec.type == "ExternalName":
            return self._lookup_external(service, kind) if not below else NO_NAME
        if not below:
            if kind == Kind.SRV:
                return self._ports(key, service, lambda _name, _protocol: True)
            return _only(_address_records(self._addresses(key, service)), kind)
        match below:
            case (port, protocol) if port.startswith("_") and protocol.startswith("_"):
                found = self._ports(key, service, lambda n, p: n == port[1:] and p == protocol[1:] and n != "")
                return (found if kind in (Kind.SRV, Kind.ANY) else NO_DATA) if found.records else NO_NAME
            case (protocol,) if protocol.startswith("_"):
                known = protocol[1:] in _PROTOCOLS
                found = self._ports(key, service, lambda n, p: known and n != "" and p == protocol[1:])
                return NO_DATA if found.records else NO_NAME
            case (label,):
                addresses = [
                    a
                    for m in self._members(key, service)
                    if _is_headless(service) and m.label == label
                    for a in m.addresses
                ]
                return _only(_address_records(addresses), kind) if addresses else NO_NAME
        return NO_NAME

    def _lookup_external(self, service: Service, kind: int) -> Answer:
        target = (service.spec.externalName or "").rstrip(".").lower()
        name = parse_name(target)
        if not is_sendable(name):
            return NO_DATA
        alias = Record(Kind.CNAME, name)
        if kind in (Kind.CNAME, Kind.ANY):
            return Answer(Outcome.FOUND, (alias,))
        # Resolvers of pods do not go after aliases themselves.
        return Answer(Outcome.FOUND, (alias,), chase=target)

    def _lookup_reverse(self, name: Name, kind: int) -> Answer:
        address = parse_reverse(name)
        owners = self._by_address.get(address, {}) if address else {}
        targets: list[Name] = []
        for key in sorted(owners):
            service = self._services.get(key)
            if service is None:
                continue
            if address in _cluster_ips(service):
                targets.append(self._name_of(key))
            elif _is_headless(service):
                targets += [
                    (m.label, *self._name_of(key)) for m in self._members(key, service) if address in m.addresses
                ]
        if not targets:
            return NOT_OURS
        return _only([Record(Kind.PTR, target) for target in dict.fromkeys(targets)], kind)

    # records
    def _addresses(self, key: Key, service: Service) -> list[str]:
        if not _is_headless(service):
            return list(_cluster_ips(service))
        return list(dict.fromkeys(a for m in self._members(key, service) for a in m.addresses))

    def _ports(self, key: Key, service: Service, wanted: Callable[[str, str], bool]) -> Answer:
        """SRV records of the ports that pass, with the addresses of their targets."""
        own = self._name_of(key)
        if not _is_headless(service):
            ports = [p for p in service.spec.ports if wanted((p.name or "").lower(), (p.protocol or "TCP").lower())]
            served = tuple(Record(Kind.SRV, Srv(SRV_WEIGHT, p.port, own)) for p in ports)
            return Answer(Outcome.FOUND, served, tuple(_address_records(_cluster_ips(service), own)) if served else ())
        found = [(m, number) for m in self._members(key, service) for n, p, number in m.ports if wanted(n, p)]
        weight = max(1, SRV_WEIGHT // max(1, len(found)))
        records: list[Record] = []
        extra: list[Record] = []
        for member, number in found:
            target = (member.label, *own)
            records.append(Record(Kind.SRV, Srv(weight, number, target)))
            extra += _address_records(member.addresses, target)
        return Answer(Outcome.FOUND, tuple(dict.fromkeys(records)), tuple(dict.fromkeys(extra)))

    def _members(self, key: Key, service: Service) -> Iterator[_Member]:
        publish_all = service.spec.publishNotReadyAddresses is True
        pieces = self._slices.get(key, {})
        for name in sorted(pieces):
            piece = pieces[name]
            if piece.addressType not in ("IPv4", "IPv6"):
                continue
            ports = tuple(
                ((p.name or "").lower(), (p.protocol or "TCP").lower(), p.port)
                for p in piece.ports
                if p.port is not None and 0 < p.port < 65536
            )
            for endpoint in piece.endpoints:
                if publish_all or endpoint.conditions.ready is not False:
                    yield from _member(endpoint, ports)

    def _name_of(self, key: Key) -> Name:
        return (key.name, key.namespace, "svc", *self.domain)


def _member(endpoint: Endpoint, ports: tuple[tuple[str, str, int], ...]) -> Iterator[_Member]:
    addresses = tuple(a for a in map(_canonical, endpoint.addresses) if a)
    hostname = (endpoint.hostname or "").lower()
    if hostname and addresses and is_sendable((hostname,)):
        yield _Member(hostname, addresses, ports)
        return
    for address in addresses:
        yield _Member(address.replace(".", "-").replace(":", "-"), (address,), ports)


def _is_headless(service: Service) -> bool:
    return service.spec.clusterIP == "None"


def _cluster_ips(service: Service) -> tuple[str, ...]:
    texts = service.spec.clusterIPs or [service.spec.clusterIP or ""]
    return tuple(dict.fromkeys(a for a in map(_canonical, texts) if a))


def _addresses_of(piece: EndpointSlice) -> Iterator[str]:
    for endpoint in piece.endpoints:
        yield from (a for a in map(_canonical, endpoint.addresses) if a)


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _address_records(addresses: Iterable[str], owner: Name | None = None) -> list[Record]:
    return [Record(Kind.AAAA if ":" in address else Kind.A, address, owner) for address in addresses]


def _only(records: Iterable[Record], kind: int) -> Answer:
    return Answer(Outcome.FOUND, tuple(r for r in records if kind in (r.kind, Kind.ANY)))


def _undash(text: str) -> str:
    """`10-1-2-3` and `fd00--1` as addresses, "" if it is none."""
    return _canonical(text.replace("-", ".")) or (_canonical(text.replace("-", ":")) if "-" in text else "")


def parse_name(text: str) -> Name:
    """Labels of a name in lower case."""
    return tuple(label for label in text.lower().split(".") if label)


def is_sendable(name: Name) -> bool:
    """Whether the labels fit into a packet (RFC 1035: 63 octets each, 255 in all)."""
    return (
        bool(name)
        and all(label.isascii() and 0 < len(label) < 64 for label in name)
        and sum(len(label) + 1 for label in name) < 255
    )


def parse_reverse(name: Name) -> str:
    """The address of a whole reverse name, "" for every other name."""
    *labels, root, _ = name
    if root == "in-addr" and len(labels) == 4:
        return _canonical(".".join(reversed(labels)))
    if root == "ip6" and len(labels) == 32 and all(len(label) == 1 for label in labels):
        digits = "".join(reversed(labels))
        return _canonical(":".join(digits[i : i + 4] for i in range(0, 32, 4)))
    return ""
