"""nftables without a kernel: obeys its rules about names, references and transactions, for the scripts we write.

Stands in for proxy.nft.run.Nft. Refuses what the kernel refuses (unknown or busy chains and sets, elements that are
there or not there, other types), and applies a script whole or not at all. `destinations` follows a packet through
the table, so that tests can ask where it may go instead of reading rules. tests/unit/proxy/nft runs one suite on
this and on the real nft.
"""

from __future__ import annotations

import copy
import ipaddress
import re
from dataclasses import dataclass, field

from kybern.proxy.nft.run import NftRefused
from kybern.proxy.nft.transaction import Existing

_REFERENCE = re.compile(r"\b(?:goto|jump) ([A-Za-z0-9/_.-]+)")
_SET = re.compile(r"@([A-Za-z0-9/_.-]+)")
_DRAW = re.compile(r"dnat ip to (ip daddr \. )?\w+ dport \. numgen random mod (\d+) map @(\S+)")
_BALANCE = re.compile(r"dnat ip to numgen random mod (\d+) map \{ (.*) \}")
_ARM = re.compile(r"\d+ : goto ([^ ,]+)")


@dataclass
class _Container:
    type: str
    elements: dict[str, str] = field(default_factory=dict)


@dataclass
class _Chain:
    hook: str = ""
    rules: list[str] = field(default_factory=list)


@dataclass
class _Table:
    chains: dict[str, _Chain] = field(default_factory=dict)
    sets: dict[str, _Container] = field(default_factory=dict)
    maps: dict[str, _Container] = field(default_factory=dict)

    def container(self, name: str) -> _Container:
        found = self.sets.get(name) or self.maps.get(name)
        if found is None:
            raise NftRefused(f"No such file or directory: set {name}")
        return found

    def chain(self, name: str) -> _Chain:
        if name not in self.chains:
            raise NftRefused(f"No such file or directory: chain {name}")
        return self.chains[name]


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection."""

    daddr: str
    protocol: str
    dport: int
    saddr: str = "192.0.2.99"
    is_from_node: bool = False
    is_to_node: bool = False  # daddr is an address of the node


@dataclass(frozen=True)
class Fate:
    """What may become of a packet: translated to one of `targets`, or `verdict` ("", "reject", "drop")."""

    targets: frozenset[str] = frozenset()
    is_masqueraded: bool = False
    verdict: str = ""


class FakeNft:
    """One network namespace's nftables."""

    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}
        self.scripts: list[str] = []  # those that were applied
        self.fail_next = 0  # so many scripts are refused

    async def apply(self, script: str) -> None:
        if self.fail_next:
            self.fail_next -= 1
            raise NftRefused("Device or resource busy: as the test asked")
        before = copy.copy({name: _copy(table) for name, table in self.tables.items()})
        try:
            for line in filter(str.strip, script.splitlines()):
                self._run(line)
        except NftRefused:
            self.tables = before
            raise
        self.scripts.append(script)

    async def existing(self) -> Existing | None:
        table = self.tables.get("ip kybern-proxy")
        if table is None:
            return None
        return Existing(frozenset(table.chains), frozenset(table.sets), frozenset(table.maps))

    async def is_present(self) -> bool:
        table = self.tables.get("ip kybern-proxy")
        return table is not None and "jump services" in table.chains.get("nat-prerouting", _Chain()).rules

    def flush_ruleset(self) -> None:
        """Somebody else's `nft flush ruleset`."""
        self.tables.clear()

    # commands
    def _run(self, line: str) -> None:
        words = line.split()
        verb, what, where, name = words[0], words[1], " ".join(words[2:4]), (words[4] if len(words) > 4 else "")
        rest = line.split(None, 5)[5] if len(words) > 5 else ""
        if what == "table":
            self._run_table(verb, where)
            return
        table = self.tables.get(where)
        if table is None:
            raise NftRefused(f"No such file or directory: table {where}")
        match verb, what:
            case "add", "chain":
                table.chains.setdefault(name, _Chain(rest))
            case "flush", "chain":
                table.chain(name).rules.clear()
            case "delete", "chain":
                table.chain(name)
                del table.chains[name]
                _check_unused(table, _REFERENCE, name)
            case "add", "rule":
                table.chain(name).rules.append(rest)
                _check_references(table, rest)
            case "add", ("set" | "map"):
                containers = table.sets if what == "set" else table.maps
                if containers.setdefault(name, _Container(rest)).type != rest:
                    raise NftRefused(f"File exists: {what} {name} of another type")
            case "flush", ("set" | "map"):
                table.container(name).elements.clear()
            case "delete", ("set" | "map"):
                table.container(name)
                _check_unused(table, _SET, name)
                del (table.sets if what == "set" else table.maps)[name]
            case "add", "element":
                _add_elements(table, table.container(name), rest)
            case "delete", "element":
                elements = table.container(name).elements
                for key, _ in _parse_elements(rest):
                    if elements.pop(key, None) is None:
                        raise NftRefused(f"No such file or directory: element {key} of {name}")
            case _:
                raise NftRefused(f"syntax error: {line}")

    def _run_table(self, verb: str, where: str) -> None:
        match verb:
            case "add":
                self.tables.setdefault(where, _Table())
            case "flush" if where in self.tables:
                for chain in self.tables[where].chains.values():
                    chain.rules.clear()
            case "delete" if where in self.tables:
                del self.tables[where]
            case _:
                raise NftRefused(f"No such file or directory: table {where}")

    # packets
    def destinations(self, packet: Packet) -> Fate:
        """Where the proxy's table may send a new connection."""
        table = self.tables.get("ip kybern-proxy")
        if table is None:
            return Fate()
        walk = _Walk(table, packet)
        walk.run("firewall-check")
        if walk.verdict:
            return Fate(verdict=walk.verdict)
        walk.run("services")
        if walk.targets:
            masquerade = walk.is_marked
            return Fate(frozenset(walk.targets), masquerade)
        checks = ["service-endpoints-check", "cluster-ips-check"]
        if packet.is_to_node:
            checks = ["nodeport-endpoints-check", "service-endpoints-check"]
        for chain in checks:
            walk.run(chain)
            if walk.verdict:
                break
        return Fate(verdict=walk.verdict)


@dataclass
class _Walk:
    """A packet on its way; where chance decides, it takes every way."""

    table: _Table
    packet: Packet
    targets: set[str] = field(default_factory=set)
    is_marked: bool = False
    verdict: str = ""

    def run(self, chain: str) -> bool:
        """Whether the packet's fate was decided."""
        for rule in self.table.chain(chain).rules:
            rest = self._match(rule)
            if rest is not None and self._act(rest):
                return True
        return False

    def _match(self, rule: str) -> str | None:
        """What a rule does, if its conditions hold. Each condition is taken off the front."""
        packet = self.packet
        conditions = (
            (r"ct state new ", lambda _: True),
            (r"meta l4proto (\w+) ", lambda m: m[1] == packet.protocol),
            (r"fib saddr type local ", lambda _: packet.is_from_node),
            (r"fib daddr type local ", lambda _: packet.is_to_node),
            (r"ip daddr != 127\.0\.0\.0/8 ", lambda _: not packet.daddr.startswith("127.")),
            (r"ip saddr != \{ ([^}]*) \} ", lambda m: not _within(packet.saddr, m[1])),
            (r"ip saddr \{ ([^}]*) \} ", lambda m: _within(packet.saddr, m[1])),
            (r"ip daddr \{ ([^}]*) \} ", lambda m: _within(packet.daddr, m[1])),
            (r"ip daddr @(\S+) ", lambda m: _holds(self.table.container(m[1]), packet.daddr)),
            (r"ip saddr @(\S+) ", lambda m: _holds(self.table.container(m[1]), packet.saddr)),
        )
        while True:
            for pattern, holds in conditions:
                found = re.match(pattern, rule)
                if found:
                    if not holds(found):
                        return None
                    rule = rule[found.end() :]
                    break
            else:
                return rule

    def _act(self, action: str) -> bool:
        packet = self.packet
        service = f"{packet.daddr} . {packet.protocol} . {packet.dport}"
        if (draw := _DRAW.fullmatch(action)) is not None:
            place = f"{packet.daddr} . {packet.dport}" if draw[1] else str(packet.dport)
            elements = self.table.container(draw[3]).elements
            found = {elements.get(f"{place} . {index}", "") for index in range(int(draw[2]))}
            self.targets |= {target.replace(" . ", ":") for target in found if target}
            return "" not in found
        if (balance := _BALANCE.fullmatch(action)) is not None:
            self.targets |= {value.replace(" . ", ":") for _, value in _parse_elements(balance[2])}
            return True
        if action.startswith("numgen"):
            for chain in _ARM.findall(action):
                self.run(chain)
            return True
        if action.startswith("ip daddr . meta l4proto . th dport vmap @"):
            return self._verdict(self.table.container(action.rpartition("@")[2]).elements.get(service, ""))
        if action.startswith("meta l4proto . th dport vmap @"):
            key = f"{packet.protocol} . {packet.dport}"
            return self._verdict(self.table.container(action.rpartition("@")[2]).elements.get(key, ""))
        if action.startswith("update @"):
            name = action.split()[1][1:]
            self.table.container(name).elements[packet.saddr] = ""
            return False
        if action.startswith("dnat to "):
            self.targets.add(action.removeprefix("dnat to "))
            return True
        if action.startswith("dnat ip to "):
            self.targets.add(action.removeprefix("dnat ip to "))
            return True
        return self._verdict(action)

    def _verdict(self, text: str) -> bool:
        if text in ("drop", "reject", "reject with tcp reset"):
            self.verdict = text.split(maxsplit=1)[0]
            return True
        if text == "jump mark-for-masquerade":
            self.is_marked = True
            return False
        if text.startswith("goto "):
            self.run(text.removeprefix("goto "))
            return True  # a goto does not come back to the chain it is in
        return False


def _holds(container: _Container, address: str) -> bool:
    if "interval" in container.type:
        return bool(container.elements) and _within(address, ",".join(container.elements))
    return address in container.elements


def _within(address: str, networks: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(n.strip()) for n in networks.split(","))


def _copy(table: _Table) -> _Table:
    return _Table(
        {name: _Chain(chain.hook, list(chain.rules)) for name, chain in table.chains.items()},
        {name: _Container(c.type, dict(c.elements)) for name, c in table.sets.items()},
        {name: _Container(c.type, dict(c.elements)) for name, c in table.maps.items()},
    )


def _parse_elements(text: str) -> list[tuple[str, str]]:
    pairs = []
    for port in re.findall(r"(?:tcp|udp|sctp|\d) \. (-?\d+)(?![\d.])", text):
        if not 0 <= int(port) < 65536:
            raise NftRefused(f"Value {port} exceeds valid range 0-65535")
    for part in text.strip().removeprefix("{").removesuffix("}").split(","):
        key, _, value = part.partition(" : ")
        pairs.append((key.strip(), value.strip()))
    return pairs


def _add_elements(table: _Table, container: _Container, text: str) -> None:
    for key, value in _parse_elements(text):
        if container.elements.get(key, value) != value:
            raise NftRefused(f"File exists: element {key}")
        _check_references(table, value)
        container.elements[key] = value


def _check_references(table: _Table, text: str) -> None:
    for name in _REFERENCE.findall(text):
        table.chain(name)
    for name in _SET.findall(text):
        table.container(name)


def _check_unused(table: _Table, pattern: re.Pattern[str], name: str) -> None:
    texts = [rule for chain in table.chains.values() for rule in chain.rules]
    texts += [value for c in table.maps.values() for value in c.elements.values()]
    if any(name in pattern.findall(text) for text in texts):
        raise NftRefused(f"Device or resource busy: {name}")
