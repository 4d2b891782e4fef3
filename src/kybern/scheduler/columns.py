"""Labels of many rows as columns: one int32 code a row and key, so that a selector is a few array operations.

Built by snapshot, for nodes and for pods; read by plugins. A column exists from the first question about its key,
so that labels nobody selects by cost nothing. Equal codes are equal values, which makes a column of a topology key
the list of the nodes' domains as well: the reason why labels are codes rather than bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kybern.machinery import labels

Codes = NDArray[np.int32]
Bools = NDArray[np.bool_]
ABSENT = -1
MOST_COLUMNS = 256
_NOTHING: Mapping[str, str] = {}


class _Column:
    __slots__ = ("codes", "values")

    def __init__(self, capacity: int) -> None:
        self.values: dict[str, int] = {}
        self.codes: Codes = np.full(capacity, ABSENT, dtype=np.int32)

    def code(self, value: str) -> int:
        return self.values.setdefault(value, len(self.values))


class LabelTable:
    """Rows 0..n-1 of labels. Rows stay dense: the last one moves into the place of one that goes."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, str]] = []
        self._columns: dict[str, _Column] = {}
        self._capacity = 16
        self._version = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row_labels: Mapping[str, str]) -> int:
        """The row."""
        row = len(self._rows)
        self._rows.append(_NOTHING)
        if row >= self._capacity:
            self._capacity *= 2
            for column in self._columns.values():
                column.codes = np.concatenate([column.codes, np.full(row, ABSENT, dtype=np.int32)])
        self.put(row, row_labels)
        return row

    def put(self, row: int, row_labels: Mapping[str, str]) -> None:
        self._rows[row] = row_labels
        for key, column in list(self._columns.items()):
            value = row_labels.get(key)
            column.codes[row] = ABSENT if value is None else column.code(value)
            if len(column.values) > 4 * len(self._rows) + 1024:
                del self._columns[key]  # mostly values of rows long gone: made afresh when asked for

    def remove(self, row: int) -> None:
        last = len(self._rows) - 1
        self._rows[row] = self._rows[last]
        self._rows.pop()
        for column in self._columns.values():
            column.codes[row] = column.codes[last]
            column.codes[last] = ABSENT

    def codes(self, key: str) -> Codes:
        """Each row's value of a label as a number; ABSENT where it has none. Valid until the next change."""
        return self._column(key).codes[: len(self._rows)]

    def values(self, key: str) -> list[str]:
        """What the codes of `codes` stand for."""
        return list(self._column(key).values)

    def matches(self, selector: labels.Selector) -> Bools:
        """Which rows a selector matches."""
        if selector.impossible:
            return np.zeros(len(self._rows), dtype=np.bool_)
        found = np.ones(len(self._rows), dtype=np.bool_)
        for requirement in selector.requirements:
            found &= self.holds(requirement)
        return found

    def holds(self, requirement: labels.Requirement) -> Bools:
        """Which rows one requirement holds for."""
        column = self._column(requirement.key)
        codes = column.codes[: len(self._rows)]
        match requirement.operator:
            case labels.Operator.EXISTS:
                return codes >= 0
            case labels.Operator.DOES_NOT_EXIST:
                return codes < 0
            case labels.Operator.IN | labels.Operator.EQUALS:
                return self._in(column, codes, requirement.values)
            case labels.Operator.NOT_IN | labels.Operator.NOT_EQUALS:
                return ~self._in(column, codes, requirement.values)
            case labels.Operator.GREATER | labels.Operator.LESS:
                # ABSENT picks the last element of the table: False.
                good = [requirement.matches({requirement.key: value}) for value in column.values]
                found: Bools = np.array([*good, False], dtype=np.bool_)[codes]
                return found

    @staticmethod
    def _in(column: _Column, codes: Codes, values: tuple[str, ...]) -> Bools:
        wanted = [column.values[v] for v in values if v in column.values]
        if not wanted:
            return np.zeros(len(codes), dtype=np.bool_)
        if len(wanted) == 1:
            return np.equal(codes, wanted[0])
        table = np.zeros(len(column.values) + 1, dtype=np.bool_)
        table[wanted] = True
        return table[codes]

    def _column(self, key: str) -> _Column:
        column = self._columns.get(key)
        if column is None:
            if len(self._columns) >= MOST_COLUMNS:
                self._columns.pop(next(iter(self._columns)))
            column = _Column(self._capacity)
            for row, row_labels in enumerate(self._rows):
                value = row_labels.get(key)
                if value is not None:
                    column.codes[row] = column.code(value)
            self._columns[key] = column
        return column
