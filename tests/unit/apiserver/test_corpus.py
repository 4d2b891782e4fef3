"""A sample of the corpus of writes, answered as a v1.36 API server answered it (recorded_corpus.jsonl.xz).

The whole corpus, how it is made and the comparison are in tools/corpus. Each write goes through a whole server, as a
dry run: decision, faulty fields with their reasons and messages, and the object as it would be stored.
"""

from __future__ import annotations

import datetime
import functools
import lzma
import pathlib
from collections import defaultdict
from typing import Any

import orjson
import pytest

from kybern.testing import agreement

pytestmark = pytest.mark.thorough

SAMPLE = pathlib.Path(__file__).parent / "recorded_corpus.jsonl.xz"


@functools.cache
def recorded() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with lzma.open(SAMPLE) as file:
        head, *cases = (orjson.loads(line) for line in file)
    return head, cases


@functools.cache
def answers() -> dict[str, list[tuple[dict[str, Any], agreement.Verdict]]]:
    """Of all cases, by kind: one server answers them all."""
    head, cases = recorded()
    writes = [
        agreement.Write(
            case["method"], case["path"], case["sent"], case["base"],
            "" if case["verb"] in ("create", "update") else case["verb"],
        )
        for case in cases
    ]  # fmt: skip
    found = defaultdict(list)
    now = datetime.datetime.fromisoformat(head["now"])
    for case, verdict in zip(cases, agreement.replay(head["bases"], head["surroundings"], writes, now), strict=True):
        found[case["kind"]].append((case, verdict))
    return found


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in recorded()[1]}))
def test_writes_are_answered_as_upstream_answers_them(kind: str) -> None:
    wrong = []
    for case, verdict in answers()[kind]:
        faults = tuple((reason, field, message) for reason, field, message in case["faults"])
        theirs = agreement.Verdict(case["code"], faults, case["stored"])
        alike = theirs.decision == verdict.decision and theirs.faults == verdict.faults
        if not alike or not agreement.is_alike(theirs.stored, verdict.stored):
            wrong.append((case["verb"], case["what"], theirs, verdict))
    assert not wrong, f"{len(wrong)} of {len(answers()[kind])} differ, the first: {wrong[0]}"


def test_the_sample_knows_every_kind_and_every_sort_of_write() -> None:
    _, cases = recorded()
    assert len(cases) >= 2800
    assert {case["verb"] for case in cases} == {
        "create", "update", "status", "approval", "resize", "ephemeralcontainers", "finalize",
        "eviction", "binding", "token", "scale",
    }  # fmt: skip
    assert len({case["kind"] for case in cases}) >= 65
    accepted = sum(case["code"] < 300 for case in cases)
    assert 800 < accepted < len(cases) / 2
