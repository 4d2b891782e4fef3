"""What the kernel should hold for Services: rules, elements and chains as values, and what changed between two states.

Filled by sync.py with one `ServicePlan` a Service (from plan.py); nft/transaction.py renders what it returns.
Promises: pure data; where two Services claim one address and port, the first by namespace and name has it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kybern.proxy.endpoints import Target


class ServiceName(NamedTuple):
    """Which Service."""

    namespace: str
    name: str


class Container(enum.StrEnum):
    """The sets and maps of the table; see nft/table.py for their types."""

    SERVICE_IPS = "service-ips"
    NODE_PORTS = "service-nodeports"
    NO_ENDPOINTS = "no-endpoint-services"
    NO_ENDPOINT_NODE_PORTS = "no-endpoint-nodeports"
    FIREWALL = "firewall-ips"
    CLUSTER_IPS = "cluster-ips"
    SERVICE_NETWORKS = "service-networks"
    HAIRPIN = "hairpin-connections"
    ENDPOINTS_TCP = "endpoints-tcp"
    ENDPOINTS_UDP = "endpoints-udp"
    ENDPOINTS_SCTP = "endpoints-sctp"
    NODE_PORT_ENDPOINTS_TCP = "nodeport-endpoints-tcp"
    NODE_PORT_ENDPOINTS_UDP = "nodeport-endpoints-udp"
    NODE_PORT_ENDPOINTS_SCTP = "nodeport-endpoints-sctp"


class Slot(NamedTuple):
    """One place in a set or map. `key` is its parts in nft's words: `("10.96.0.1", "tcp", "443")`."""

    container: Container
    key: tuple[str, ...]


Value = str
"""What is in the place: `goto <chain>` or `drop`, or an endpoint (`10.0.0.1 . 80`); "" in plain sets."""


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in a chain and do not come back."""

    chain: str


@dataclass(frozen=True, slots=True)
class MarkForMasquerade:
    """Replies must come back through this node."""


@dataclass(frozen=True, slots=True)
class FromNetworks:
    """Do `then` for packets from these networks (CIDRs)."""

    networks: tuple[str, ...]
    then: Goto


@dataclass(frozen=True, slots=True)
class FromNode:
    """Do `then` for packets that a process of this node sends."""

    then: Goto | MarkForMasquerade


@dataclass(frozen=True, slots=True)
class DropUnlessFrom:
    """The fence of loadBalancerSourceRanges."""

    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """Send a new connection to one of the first `count` endpoints that the endpoints map has for where it goes to.

    Serves all Services with so many endpoints. By address and port, or for node ports by port alone.
    """

    protocol: str
    count: int
    is_node_port: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """Send a new connection to one of the targets, each as likely as the others."""

    protocol: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class BalanceChains:
    """Go on in one of the chains, each as likely as the others."""

    chains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GotoIfRemembered:
    """Clients in the set come back to the endpoint they had."""

    memory: str
    chain: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Put the client in the set for `seconds`, anew with each connection."""

    memory: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the connection to the target."""

    protocol: str
    target: Target


Rule = (
    Goto
    | MarkForMasquerade
    | FromNetworks
    | FromNode
    | DropUnlessFrom
    | Draw
    | Balance
    | BalanceChains
    | GotoIfRemembered
    | Remember
    | Forward
)


class Frontend(NamedTuple):
    """Where clients of a UDP service port send to; `ip` is "" for a node port."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What an external load balancer is told at a healthCheckNodePort."""

    port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything the kernel should hold for one Service."""

    elements: Mapping[Slot, Value] = field(default_factory=dict)
    chains: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    shared_chains: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)  # the same in every plan that has them
    memories: frozenset[str] = frozenset()  # sets of clients, for session affinity
    udp: Mapping[Frontend, frozenset[Target]] = field(default_factory=dict)
    health_check: HealthCheck | None = None


NOTHING = ServicePlan()


@dataclass(frozen=True, slots=True)
class Delta:
    """From what was to what is. Elements whose value changed are in `removed` and `added`."""

    removed: Mapping[Slot, Value]
    added: Mapping[Slot, Value]
    chains: Mapping[str, tuple[Rule, ...]]  # new or changed
    chains_new: frozenset[str]  # of `chains`, those that did not exist
    chains_gone: tuple[str, ...]
    shared_chains: Mapping[str, tuple[Rule, ...]]  # that the changed plans need
    memories_new: tuple[str, ...]
    memories_gone: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (
            self.removed or self.added or self.chains or self.chains_gone or self.memories_new or self.memories_gone
        )


class Ruleset:
    """The union of all plans. One writer: the sync loop."""

    def __init__(self) -> None:
        self._plans: dict[ServiceName, ServicePlan] = {}
        self._claims: dict[Slot, dict[ServiceName, Value]] = {}

    def plan_of(self, service: ServiceName) -> ServicePlan:
        return self._plans.get(service, NOTHING)

    def plans(self) -> Mapping[ServiceName, ServicePlan]:
        return self._plans

    def elements(self) -> dict[Slot, Value]:
        """Each slot with the value of the Service that has it."""
        return {slot: claims[min(claims)] for slot, claims in self._claims.items()}

    def chains(self) -> dict[str, tuple[Rule, ...]]:
        return {name: rules for plan in self._plans.values() for name, rules in plan.chains.items()}

    def shared_chains(self) -> dict[str, tuple[Rule, ...]]:
        return {name: rules for plan in self._plans.values() for name, rules in plan.shared_chains.items()}

    def memories(self) -> set[str]:
        return {name for plan in self._plans.values() for name in plan.memories}

    def replace(self, plans: Iterable[tuple[ServiceName, ServicePlan]]) -> Delta:
        """Take in new plans (an empty one removes its Service); what must change in the kernel."""
        before: dict[Slot, Value | None] = {}
        chains: dict[str, tuple[Rule, ...]] = {}
        chains_new: set[str] = set()
        chains_gone: list[str] = []
        shared_chains: dict[str, tuple[Rule, ...]] = {}
        memories_new: list[str] = []
        memories_gone: list[str] = []
        for service, new in plans:
            old = self._plans.get(service, NOTHING)
            if old == new:
                continue
            for slot in (*old.elements, *(s for s in new.elements if s not in old.elements)):
                before.setdefault(slot, self._value(slot))
                self._claim(slot, service, new.elements.get(slot))
            for name, rules in new.chains.items():
                if old.chains.get(name) != rules:
                    chains[name] = rules
                    if name not in old.chains:
                        chains_new.add(name)
            chains_gone += [name for name in old.chains if name not in new.chains]
            shared_chains.update(new.shared_chains)
            memories_new += sorted(new.memories - old.memories)
            memories_gone += sorted(old.memories - new.memories)
            if new == NOTHING:
                self._plans.pop(service, None)
            else:
                self._plans[service] = new
        removed: dict[Slot, Value] = {}
        added: dict[Slot, Value] = {}
        for slot, was in before.items():
            now = self._value(slot)
            if was != now:
                if was is not None:
                    removed[slot] = was
                if now is not None:
                    added[slot] = now
        return Delta(
            removed=removed,
            added=added,
            chains=chains,
            chains_new=frozenset(chains_new),
            chains_gone=tuple(chains_gone),
            shared_chains=shared_chains,
            memories_new=tuple(memories_new),
            memories_gone=tuple(memories_gone),
        )

    def _value(self, slot: Slot) -> Value | None:
        claims = self._claims.get(slot)
        return claims[min(claims)] if claims else None

    def _claim(self, slot: Slot, service: ServiceName, value: Value | None) -> None:
        if value is not None:
            self._claims.setdefault(slot, {})[service] = value
            return
        claims = self._claims.get(slot)
        if claims is not None:
            claims.pop(service, None)
            if not claims:
                del self._claims[slot]
