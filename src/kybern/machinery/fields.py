"""Field selectors: `metadata.name=x,status.phase!=Running`, parsed once and matched against extracted fields.

Fed by the `fieldSelector` parameter; matched by the watch cache against `Strategy.selectable_fields`.
Which fields a kind supports is the strategies' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Operator = Literal["=", "!="]


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All requirements must hold. A field that an object lacks counts as ""."""

    requirements: tuple[tuple[str, Operator, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.requirements

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all((fields.get(name, "") == value) == (operator == "=") for name, operator, value in self.requirements)

    def exact(self, field: str) -> str | None:
        """The one value `field` must have, if the selector says so: a listing by name is a look-up."""
        for name, operator, value in self.requirements:
            if name == field and operator == "=":
                return value
        return None

    def __str__(self) -> str:
        return ",".join(f"{name}{operator}{escape(value)}" for name, operator, value in self.requirements)


EVERYTHING = FieldSelector()


def parse_selector(text: str) -> FieldSelector:
    """The inverse of `str()`. Raises ValueError with upstream's words."""
    requirements: list[tuple[str, Operator, str]] = []
    for term in _terms(text):
        if not term:
            continue
        requirements.append(_requirement(term, text))
    return FieldSelector(tuple(requirements)) if requirements else EVERYTHING


def escape(value: str) -> str:
    """A value as it stands in a selector."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _terms(text: str) -> Iterator[str]:
    """Parts between unescaped commas, still escaped."""
    start = position = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == ",":
            yield text[start:position]
            start = position + 1
        position += 1
    yield text[start:]


def _requirement(term: str, text: str) -> tuple[str, Operator, str]:
    for position in range(len(term)):
        for sign, operator in _SIGNS:
            if term.startswith(sign, position):
                return term[:position], operator, _unescape(term[position + len(sign) :])
    raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")


_SIGNS: tuple[tuple[str, Operator], ...] = (("!=", "!="), ("==", "="), ("=", "="))


def _unescape(value: str) -> str:
    if "\\" not in value and "," not in value and "=" not in value:
        return value
    out: list[str] = []
    characters = iter(value)
    for c in characters:
        if c == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "=") or not escaped:
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            out.append(escaped)
        elif c in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(c)}")
        else:
            out.append(c)
    return "".join(out)
