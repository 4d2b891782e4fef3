"""What to tell nft: a change as scripts, or the whole table as one script. Each script is applied whole or not at all.

Fed by sync.py with deltas and the ruleset; run.py applies the text. Promises that a script after a successful one
holds, and that the whole script holds whatever the table has become.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kybern.proxy.nft import table
from kybern.proxy.nft.render import render_rule
from kybern.proxy.nft.table import WHERE
from kybern.proxy.ruleset import Delta, Rule, Ruleset, Slot, Value


@dataclass(frozen=True, slots=True)
class Existing:
    """What the table holds by name; contents do not matter, they are written anew."""

    chains: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()


class Writer:
    """Scripts for one table, in order: it remembers which shared chains those before made."""

    def __init__(self, settings: table.Settings) -> None:
        self.settings = settings
        self._shared: set[str] = set()

    def render_delta(self, delta: Delta) -> list[str]:
        """Additions first, then what pointed to the old, then the old.

        Shared chains come in a script of their own, before: a packet that is on its way while they are made must not
        be led to one that, to it, is empty yet. They stay until the whole table is written.
        """
        shared = {name: rules for name, rules in delta.shared_chains.items() if name not in self._shared}
        self._shared.update(shared)
        lines = [f"add set {WHERE} {name} {{ {table.MEMORY_TYPE} ; }}" for name in delta.memories_new]
        lines += [f"add chain {WHERE} {name}" for name in delta.chains if name in delta.chains_new]
        lines += [f"flush chain {WHERE} {name}" for name in delta.chains if name not in delta.chains_new]
        lines += _rules(delta.chains)
        lines += _elements("delete", dict.fromkeys(delta.removed, ""))
        lines += _elements("add", delta.added)
        lines += [f"flush chain {WHERE} {name}" for name in delta.chains_gone]
        lines += [f"delete chain {WHERE} {name}" for name in delta.chains_gone]
        lines += [f"delete set {WHERE} {name}" for name in delta.memories_gone]
        prepared = [f"add chain {WHERE} {name}" for name in shared] + _rules(shared)
        return ["\n".join(part) + "\n" for part in (prepared, lines) if part]

    def render_whole(self, ruleset: Ruleset, existing: Existing | None) -> str:
        """The table as it should be. What `existing` holds is reused, so that sessions keep their endpoint."""
        chains = ruleset.shared_chains() | ruleset.chains()
        memories = ruleset.memories()
        existing = existing or Existing()
        self._shared = set(ruleset.shared_chains())
        lines = [f"add table {WHERE}", f"flush table {WHERE}"]
        lines += [f"add map {WHERE} {name} {{ {kind} ; }}" for name, kind in table.MAPS.items()]
        lines += [f"add set {WHERE} {name} {{ {kind} ; }}" for name, kind in table.SETS.items()]
        lines += [f"add set {WHERE} {name} {{ {table.MEMORY_TYPE} ; }}" for name in sorted(memories - existing.sets)]
        lines += [f"flush map {WHERE} {name}" for name in table.MAPS]
        lines += [f"flush set {WHERE} {name}" for name in table.SETS]
        lines += [f"add chain {WHERE} {name} {{ {hook} ; }}" for name, hook in table.HOOKS.items()]
        lines += [f"add chain {WHERE} {name}" for name in (*table.CHAINS, *chains)]
        lines += _elements("add", ruleset.elements())
        lines += _rules(chains)
        lines += [f"add rule {WHERE} {chain} {rule}" for chain, rule in table.fixed_rules(self.settings)]
        lines += [f"delete chain {WHERE} {name}" for name in sorted(existing.chains - table.FIXED_CHAINS - set(chains))]
        lines += [f"delete set {WHERE} {name}" for name in sorted(existing.sets - table.SETS.keys() - memories)]
        lines += [f"delete map {WHERE} {name}" for name in sorted(existing.maps - table.MAPS.keys())]
        return "\n".join(lines) + "\n"


def render_cleanup() -> str:
    """Nothing is left of the table, whether it was there or not."""
    return f"add table {WHERE}\ndelete table {WHERE}\n"


def _rules(chains: Mapping[str, tuple[Rule, ...]]) -> list[str]:
    return [f"add rule {WHERE} {name} {render_rule(rule)}" for name, rules in chains.items() for rule in rules]


def _elements(verb: str, elements: Mapping[Slot, Value]) -> Iterable[str]:
    by_container: dict[str, list[str]] = {}
    for (container, key), value in elements.items():
        text = " . ".join(key)
        by_container.setdefault(container, []).append(f"{text} : {value}" if value else text)
    return [f"{verb} element {WHERE} {name} {{ {', '.join(texts)} }}" for name, texts in by_container.items()]
