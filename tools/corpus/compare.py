"""How far two servers agree: figures by kind, and the differences, gathered by the rule they come from.

Fed by record with a reference server's answers; asks Kybern in this process.
"""

from __future__ import annotations

import argparse
import datetime
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from kybern.testing import agreement
from kybern.testing.agreement import Verdict

_QUOTED = re.compile(r'"[^"]*"|\b\d+\b')
_INDEX = re.compile(r"\[[^\]]*\]")


def verdicts(head: dict[str, Any], cases: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Kybern's."""
    writes = [write_of(case) for case in cases]
    return agreement.replay(head["bases"], head["surroundings"], writes, moment(head))


def moment(head: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(head["now"])


def write_of(case: dict[str, Any]) -> agreement.Write:
    subresource = case["verb"] if case["verb"] not in ("create", "update") else ""
    return agreement.Write(case["method"], case["path"], case["sent"], case["base"], subresource)


def expected(case: dict[str, Any]) -> Verdict:
    """The reference server's."""
    return Verdict(case["code"], tuple((r, f, m) for r, f, m in case["faults"]), case["stored"])


def differences(theirs: Verdict, ours: Verdict) -> list[str]:
    """What differs: of decision, fields, messages, stored; [] for nothing."""
    found = []
    if theirs.decision != ours.decision:
        return ["decision"]
    if theirs.fields != ours.fields:
        found.append("fields")
    elif theirs.faults != ours.faults:
        found.append("messages")
    if not agreement.is_alike(theirs.stored, ours.stored):
        found.append("stored" if theirs.code < 300 else "messages")
    return found


def report(head: dict[str, Any], cases: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Print the figures by kind, then the clusters of differences, the largest first."""
    cases = [c for c in cases if chosen.kind in ("", c["kind"]) and chosen.verb in ("", c["verb"])]
    began = time.monotonic()
    answers = verdicts(head, cases)
    print(f"{len(cases)} cases in {time.monotonic() - began:.1f} s")
    figures: dict[str, Counter[str]] = defaultdict(Counter)
    clusters: dict[tuple[str, ...], list[tuple[dict[str, Any], Verdict, Verdict]]] = defaultdict(list)
    for case, ours in zip(cases, answers, strict=True):
        theirs = expected(case)
        found = differences(theirs, ours)
        for kind in (case["kind"], f"~{case['verb']}", "~all"):
            figures[kind]["cases"] += 1
            figures[kind]["accepted"] += theirs.code < 300
            for what in found:
                figures[kind][what] += 1
            figures[kind]["judged"] += "decision" not in found and "fields" not in found
        for what in found:
            clusters[(what, case["verb"], *_gist(what, theirs, ours))].append((case, theirs, ours))
    print(f"{'kind':60} cases accepted decision fields stored messages  agreement")
    for kind, counts in sorted(figures.items()):
        columns = [counts[c] for c in ("cases", "accepted", "decision", "fields", "stored", "messages")]
        print(f"{kind:60} {columns[0]:5} {columns[1]:8} {columns[2]:8} {columns[3]:6} {columns[4]:6} {columns[5]:8}"
              f"  {100 * counts['judged'] / counts['cases']:.2f} %")  # fmt: skip
    ranked = sorted(clusters.items(), key=lambda item: (_ORDER[item[0][0]], -len(item[1])))
    for key, members in ranked[: chosen.limit]:
        kinds = Counter(case["kind"] for case, _, _ in members)
        print(f"\n# {len(members)} x {key[0]} ({key[1]}) {dict(kinds.most_common(4))}")
        for line in key[2:]:
            print("   ", line)
        for case, theirs, ours in members[: chosen.show]:
            said = (case["message"] or "")[:300]
            print(f"    e.g. {case['what'][:200]}  theirs {theirs.code} {said!r} ours {ours.code}")


_ORDER = {"decision": 0, "fields": 1, "stored": 2, "messages": 3}


def _gist(what: str, theirs: Verdict, ours: Verdict) -> list[str]:
    """The same for differences that come from the same rule."""
    if what == "stored":
        return sorted(_INDEX.sub("[]", line)[:160] for line in _unlike(theirs.stored, ours.stored, ""))[:4]
    lines = [f"- {_blank(r, f, m)}" for r, f, m in theirs.faults if (r, f, m) not in ours.faults]
    lines += [f"+ {_blank(r, f, m)}" for r, f, m in ours.faults if (r, f, m) not in theirs.faults]
    if what == "decision":
        lines.append(f"code {theirs.code} {ours.code} {ours.stored if ours.code >= 300 else ''}")
    return sorted(dict.fromkeys(lines))[:5]


def _blank(reason: str, field: str, message: str) -> str:
    return f"{_INDEX.sub('[]', field)} {reason}: {_QUOTED.sub('_', message)}"[:220]


def _unlike(theirs: Any, ours: Any, path: str) -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for key in sorted({*theirs, *ours}):
            if not agreement.is_alike(theirs.get(key), ours.get(key)):
                found += _unlike(theirs.get(key, _NOTHING), ours.get(key, _NOTHING), f"{path}.{key}")
        return found
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [
            line for i, pair in enumerate(zip(theirs, ours, strict=True)) for line in _unlike(*pair, f"{path}[{i}]")
        ]
    return [] if theirs == ours and type(theirs) is type(ours) else [f"{path}: {theirs!r} {ours!r}"]


class _Nothing:
    def __repr__(self) -> str:
        return "-"


_NOTHING = _Nothing()


def representative(head: dict[str, Any], cases: list[dict[str, Any]], count: int) -> list[Any]:
    """Lines of a smaller file: as many different answers and places as `count` cases can show.

    Only what both servers answer alike now: the sample guards that; what they do not is for `compare` to tell.
    """
    rng = random.Random(1)
    answers = verdicts(head, cases)
    cases = [c for c, ours in zip(cases, answers, strict=True) if not differences(expected(c), ours)]
    accepted = [c for c in cases if c["code"] < 300]
    refused = [c for c in cases if c["code"] >= 300]
    taken = _varied(accepted, count * 2 // 5, _place, rng)
    taken += _varied(refused, count - len(taken), _answer, rng)
    taken.sort(key=lambda c: (c["kind"], c["verb"], c["what"]))
    return [head, *({key: value for key, value in case.items() if key != "message"} for case in taken)]


def _place(case: dict[str, Any]) -> tuple[Any, ...]:
    return case["kind"], case["verb"], case["what"].partition(":")[0]


def _answer(case: dict[str, Any]) -> tuple[Any, ...]:
    faults = sorted({(reason, _INDEX.sub("[]", field)) for reason, field, _ in case["faults"]})
    return case["kind"], case["verb"], case["code"], tuple(faults)


def _varied(
    cases: Sequence[dict[str, Any]], count: int, key: Callable[[dict[str, Any]], Any], rng: random.Random
) -> list[dict[str, Any]]:
    """`count` cases: one of each `key`, then a second of each, and so on."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    ordered = list(groups.values())
    for group in ordered:
        rng.shuffle(group)
    rng.shuffle(ordered)
    taken: list[dict[str, Any]] = []
    while len(taken) < count and any(ordered):
        taken += [group.pop() for group in ordered if group]
    return taken[:count]
