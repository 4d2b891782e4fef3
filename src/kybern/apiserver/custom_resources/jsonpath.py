"""JSONPath as kubectl and CustomResourceDefinitions write it: `.status.conditions[?(@.type=="Ready")].status`.

Compiled once; used by columns, scale and selectable fields. Source: "JSONPath Support" in the kubectl documentation.
Bounded: a path is at most 2,048 characters, and every step looks at each value once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Step = Callable[[list[Any]], list[Any]]
MAX_LENGTH = 2048
MAX_VALUES = 10_000  # that a path may find; no table has longer cells


class PathError(ValueError):
    """The path is not one."""


class JsonPath:
    """One path."""

    def __init__(self, text: str, steps: Sequence[Step]) -> None:
        self.text = text
        self._steps = tuple(steps)

    def find(self, document: Any) -> list[Any]:
        """All values at the path, in document order; [] if there are none."""
        values = [document]
        for step in self._steps:
            values = step(values)
            if not values:
                return []
            del values[MAX_VALUES:]
        return values


@functools.lru_cache(maxsize=4096)
def compile_path(text: str) -> JsonPath:
    """Raises PathError."""
    if len(text) > MAX_LENGTH:
        raise PathError("path is too long")
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    return JsonPath(text, _Parser(body).steps())


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self, until: str = "") -> list[Step]:
        """Steps to the end of the text, or to the first character in `until` outside of brackets."""
        found: list[Step] = []
        if self._peek() in ("$", "@"):
            self._at += 1
        while self._at < len(self._text):
            char = self._peek()
            if char in until:
                break
            if char == ".":
                self._at += 1
                if self._peek() == ".":
                    self._at += 1
                    found.append(_descend)
                    if self._peek() == "[":
                        continue
                if self._at >= len(self._text):
                    break
                if self._peek() != "[":
                    found.append(self._field(until))
            elif char == "[":
                found.append(self._bracket())
            else:
                raise PathError(f"unexpected character {char!r} at {self._at}")
        return found

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _field(self, until: str) -> Step:
        name = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\\" and self._at + 1 < len(self._text):
                self._at += 1
                name += self._text[self._at]
            elif char in ".[" or char in until:
                break
            else:
                name += char
            self._at += 1
        if name == "*":
            return _every
        if not name:
            raise PathError(f"empty field name at {self._at}")
        return functools.partial(_fields, (name,))

    def _bracket(self) -> Step:
        self._at += 1
        if self._text.startswith("?(", self._at):
            return self._filter()
        end = self._closing()
        inner, self._at = self._text[self._at : end].strip(), end + 1
        if inner == "*":
            return _every
        if inner[:1] == "'":
            return functools.partial(_fields, tuple(_unquote(part.strip()) for part in _split(inner)))
        try:
            if ":" in inner:
                bounds = [int(part) if part.strip() else None for part in inner.split(":")]
                if len(bounds) > 3 or bounds[2:] == [0]:
                    raise PathError(f"invalid array index {inner}")
                return functools.partial(_slices, slice(*bounds))
            return functools.partial(_indexes, tuple(int(part) for part in inner.split(",")))
        except ValueError:
            raise PathError(f"invalid array index {inner}") from None

    def _closing(self) -> int:
        quote = ""
        for at in range(self._at, len(self._text)):
            char = self._text[at]
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            elif char == "]":
                return at
        raise PathError("unterminated array")

    def _filter(self) -> Step:
        self._at += 2
        left = self._operand(" =!<>)")
        self._skip()
        operator = ""
        while self._peek() in ("=", "!", "<", ">") and self._peek():
            operator += self._peek()
            self._at += 1
        self._skip()
        right = self._operand(" )") if operator else None
        self._skip()
        if not self._text.startswith(")]", self._at):
            raise PathError("unterminated filter")
        self._at += 2
        if operator not in ("", "==", "!=", "<", ">", "<=", ">="):
            raise PathError(f"unrecognized filter operator {operator}")
        return functools.partial(_filtered, left, operator, right)

    def _skip(self) -> None:
        while self._peek() == " ":
            self._at += 1

    def _operand(self, until: str) -> Callable[[Any], list[Any]]:
        self._skip()
        char = self._peek()
        if char in ("@", "$"):
            steps = self.steps(until)

            def follow(value: Any) -> list[Any]:
                return JsonPath("", steps).find(value)

            return follow
        if char in ("'", '"'):
            end = self._text.find(char, self._at + 1)
            if end < 0:
                raise PathError("unterminated quoted string")
            text, self._at = self._text[self._at + 1 : end], end + 1
            return lambda _: [text]
        start = self._at
        while self._peek() and self._peek() not in until:
            self._at += 1
        word = self._text[start : self._at]
        literal: Any = {"true": True, "false": False}.get(word)
        if literal is None:
            try:
                literal = float(word) if "." in word else int(word)
            except ValueError:
                raise PathError(f"unrecognized operand {word!r}") from None
        return lambda _: [literal]


def _split(text: str) -> list[str]:
    parts, quote, current = [], "", ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == ",":
            parts.append(current)
            current = ""
            continue
        current += char
    return [*parts, current]


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise PathError(f"unterminated quoted string {text}")
    return text[1:-1]


def _fields(names: tuple[str, ...], values: list[Any]) -> list[Any]:
    return [value[name] for value in values if isinstance(value, dict) for name in names if name in value]


def _every(values: list[Any]) -> list[Any]:
    return [inner for value in values for inner in _children(value)]


def _indexes(indexes: tuple[int, ...], values: list[Any]) -> list[Any]:
    found = []
    for value in values:
        if isinstance(value, list):
            found += [value[i] for i in indexes if -len(value) <= i < len(value)]
    return found


def _slices(chosen: slice, values: list[Any]) -> list[Any]:
    return [inner for value in values if isinstance(value, list) for inner in value[chosen]]


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _descend(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    waiting = list(reversed(values))
    while waiting and len(found) < MAX_VALUES:
        value = waiting.pop()
        found.append(value)
        waiting.extend(reversed(list(_children(value))))
    return found


def _filtered(
    left: Callable[[Any], list[Any]], operator: str, right: Callable[[Any], list[Any]] | None, values: list[Any]
) -> list[Any]:
    found = []
    for value in values:
        for item in value if isinstance(value, list) else ():
            ours = left(item)
            if right is None:
                if ours:
                    found.append(item)
            elif ours and (theirs := right(item)) and _compare(ours[0], operator, theirs[0]):
                found.append(item)
    return found


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    numbers = (int, float)
    if not (isinstance(left, numbers) and isinstance(right, numbers)) and type(left) is not type(right):
        return False
    if not isinstance(left, (*numbers, str)):
        return False
    match operator:
        case "<":
            return bool(left < right)
        case ">":
            return bool(left > right)
        case "<=":
            return bool(left <= right)
        case _:
            return bool(left >= right)


def field_names(path: str) -> list[str]:
    """The names of a path of fields alone: `.a['b.c'].d`. Raises PathError."""
    parser = _Parser(path)
    names: list[str] = []
    for step in parser.steps():
        if not isinstance(step, functools.partial) or step.func is not _fields or len(step.args[0]) != 1:
            raise PathError(f"{path} is not a path of fields")
        names.append(step.args[0][0])
    return names


def selected_text(value: Any) -> str:
    """A selectable field's value: texts, numbers and truth."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
