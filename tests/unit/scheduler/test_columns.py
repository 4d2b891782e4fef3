from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery import labels
from kybern.machinery.labels import Operator, Requirement, Selector
from kybern.scheduler.columns import ABSENT, LabelTable

KEYS = ["app", "zone", "size"]
VALUES = ["a", "b", "c", "1", "20", "-3", ""]
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(list(Operator)))
    if operator in (Operator.GREATER, Operator.LESS):
        values = (draw(st.sampled_from(["5", "-3", "x"])),)
    else:
        values = tuple(draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3)))
    return Requirement(draw(st.sampled_from(KEYS)), operator, values)


@given(st.lists(LABELS), st.lists(requirements(), max_size=3))
def test_columns_match_as_the_selector_does(rows: list[dict[str, str]], wanted: list[Requirement]) -> None:
    table = LabelTable()
    for row in rows:
        table.append(row)
    selector = Selector(tuple(wanted))
    assert list(table.matches(selector)) == [selector.matches(row) for row in rows]


@given(st.lists(st.tuples(st.sampled_from(["add", "put", "remove"]), st.integers(0, 50), LABELS), max_size=60))
def test_columns_follow_every_change(changes: list[tuple[str, int, dict[str, str]]]) -> None:
    table, rows = LabelTable(), []
    table.codes("zone")  # the column exists from the start, and is kept up
    for what, index, row in changes:
        if what == "add" or not rows:
            assert table.append(row) == len(rows)
            rows.append(row)
        elif what == "put":
            table.put(index % len(rows), row)
            rows[index % len(rows)] = row
        else:
            table.remove(index % len(rows))
            rows[index % len(rows)] = rows[-1]
            rows.pop()
    values = table.values("zone")
    assert [None if c == ABSENT else values[c] for c in table.codes("zone")] == [r.get("zone") for r in rows]
    assert list(table.codes("size") >= 0) == ["size" in r for r in rows]


def test_values_of_rows_long_gone_are_forgotten() -> None:
    table = LabelTable()
    table.append({})
    for i in range(5000):
        table.put(0, {"hash": str(i)})
        table.codes("hash")
    assert len(table.values("hash")) < 1100


def test_a_selector_that_is_impossible_matches_no_row() -> None:
    table = LabelTable()
    table.append({"app": "a"})
    assert not table.matches(labels.NOTHING).any()
    assert table.matches(labels.EVERYTHING).dtype == np.bool_
