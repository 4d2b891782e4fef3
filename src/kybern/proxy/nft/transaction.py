"""What to tell nft: a change as one script, or the whole table as one script. Each is applied whole or not at all.

Fed by sync.py with deltas and the ruleset; run.py applies the text. Promises that a script after a successful one
holds, and that the whole script holds whatever the table has become.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kybern.proxy.nft import table
from kybern.proxy.nft.ranges import Ranges
from kybern.proxy.nft.render import render_rule
from kybern.proxy.nft.table import WHERE
from kybern.proxy.ruleset import Balance, Delta, Rule, Ruleset, Slot, Verdict


@dataclass(frozen=True, slots=True)
class Existing:
    """What the table holds by name; contents do not matter, they are written anew."""

    chains: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()


class Writer:
    """Scripts for one table, in order: it remembers the numbers given out by those before."""

    def __init__(self, settings: table.Settings) -> None:
        self.settings = settings
        self._ranges = {protocol: Ranges() for protocol in table.ENDPOINTS_TYPES}
        self._generation = "a"

    def render_delta(self, delta: Delta) -> str:
        """Additions first, then what pointed to the old, then the old."""
        lines = [f"add set {WHERE} {name} {{ {table.MEMORY_TYPE} ; }}" for name in delta.memories_new]
        lines += [f"add chain {WHERE} {name}" for name in delta.chains if name in delta.chains_new]
        rules = self._rules(delta.chains)
        for name in delta.chains_gone:
            self._release(name)
        lines += self._endpoint_changes()
        lines += [f"flush chain {WHERE} {name}" for name in delta.chains if name not in delta.chains_new]
        lines += rules
        lines += _elements("delete", dict.fromkeys(delta.removed, ""))
        lines += _elements("add", delta.added)
        lines += [f"flush chain {WHERE} {name}" for name in delta.chains_gone]
        lines += [f"delete chain {WHERE} {name}" for name in delta.chains_gone]
        lines += [f"delete set {WHERE} {name}" for name in delta.memories_gone]
        return "\n".join(lines) + "\n"

    def render_whole(self, ruleset: Ruleset, existing: Existing | None) -> str:
        """The table as it should be. What `existing` holds is reused, so that sessions keep their endpoint."""
        chains, memories, elements = ruleset.chains(), ruleset.memories(), ruleset.elements()
        existing = existing or Existing()
        # Elements of a map cost time for each rule that reads it: they go into fresh maps, before any rule.
        self._ranges = {protocol: Ranges() for protocol in table.ENDPOINTS_TYPES}
        self._generation = "b" if self._map("tcp", "a") in existing.maps else "a"
        fresh = {self._map(protocol): kind for protocol, kind in table.ENDPOINTS_TYPES.items()}
        stale_maps = existing.maps - table.MAPS.keys() - fresh.keys()
        lines = [f"add table {WHERE}", f"flush table {WHERE}"]
        lines += [f"add map {WHERE} {name} {{ {kind} ; }}" for name, kind in table.MAPS.items()]
        lines += [f"add set {WHERE} {name} {{ {kind} ; }}" for name, kind in table.SETS.items()]
        lines += [f"delete map {WHERE} {name}" for name in sorted(existing.maps & fresh.keys())]
        lines += [f"add map {WHERE} {name} {{ {kind} ; }}" for name, kind in fresh.items()]
        lines += [f"add set {WHERE} {name} {{ {table.MEMORY_TYPE} ; }}" for name in sorted(memories - existing.sets)]
        lines += [f"flush map {WHERE} {name}" for name in table.MAPS]
        lines += [f"flush set {WHERE} {name}" for name in table.SETS]
        lines += [f"add chain {WHERE} {name} {{ {hook} ; }}" for name, hook in table.HOOKS.items()]
        lines += [f"add chain {WHERE} {name}" for name in (*table.CHAINS, *chains)]
        rules = self._rules(chains)
        lines += self._endpoint_changes()
        lines += rules
        lines += [f"add rule {WHERE} {chain} {rule}" for chain, rule in table.fixed_rules(self.settings)]
        lines += _elements("add", elements)
        lines += [f"delete chain {WHERE} {name}" for name in sorted(existing.chains - table.FIXED_CHAINS - set(chains))]
        lines += [f"delete set {WHERE} {name}" for name in sorted(existing.sets - table.SETS.keys() - memories)]
        lines += [f"delete map {WHERE} {name}" for name in sorted(stale_maps)]
        return "\n".join(lines) + "\n"

    def _map(self, protocol: str, generation: str = "") -> str:
        return f"endpoints-{generation or self._generation}-{protocol}"

    def _release(self, chain: str) -> None:
        for ranges in self._ranges.values():
            ranges.release(chain)

    def _rules(self, chains: Mapping[str, tuple[Rule, ...]]) -> list[str]:
        lines = []
        for name, rules in chains.items():
            balance = next((rule for rule in rules if isinstance(rule, Balance)), None)
            start, source = 0, ""
            if balance is None:
                self._release(name)
            else:
                start, source = (
                    self._ranges[balance.protocol].assign(name, balance.targets),
                    self._map(balance.protocol),
                )
            lines += [f"add rule {WHERE} {name} {render_rule(rule, start, source)}" for rule in rules]
        return lines

    def _endpoint_changes(self) -> list[str]:
        lines = []
        for protocol, ranges in self._ranges.items():
            removed, added = ranges.take()
            where = f"element {WHERE} {self._map(protocol)}"
            if removed:
                lines.append(f"delete {where} {{ {', '.join(map(str, removed))} }}")
            if added:
                arms = ", ".join(f"{number} : {target.ip} . {target.port}" for number, target in added)
                lines.append(f"add {where} {{ {arms} }}")
        return lines


def render_cleanup() -> str:
    """Nothing is left of the table, whether it was there or not."""
    return f"add table {WHERE}\ndelete table {WHERE}\n"


def _elements(verb: str, elements: Mapping[Slot, Verdict]) -> Iterable[str]:
    by_container: dict[str, list[str]] = {}
    for (container, key), verdict in elements.items():
        text = " . ".join(key)
        by_container.setdefault(container, []).append(f"{text} : {verdict}" if verdict else text)
    return [f"{verb} element {WHERE} {name} {{ {', '.join(texts)} }}" for name, texts in by_container.items()]
