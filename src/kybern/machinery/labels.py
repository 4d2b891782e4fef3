"""Label selectors: the text form of URLs and the object form of specs, as one matcher.

Fed by the `labelSelector` parameter, by specs and by controllers; matched against `metadata.labels`.
Source of the grammar: "Labels and Selectors" in the Kubernetes documentation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from kybern.api.meta_v1 import LabelSelector
from kybern.machinery import names


class Operator(Enum):
    """The value is how the text form writes it."""

    IN = "in"
    NOT_IN = "notin"
    EQUALS = "="
    NOT_EQUALS = "!="
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER = "gt"
    LESS = "lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. Absent keys satisfy notin, != and !."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()  # sorted, unique

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN | Operator.EQUALS:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NOT_IN | Operator.NOT_EQUALS:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels
            case Operator.GREATER | Operator.LESS:
                found, bound = _integer(labels.get(self.key)), _integer(self.values[0])
                if found is None or bound is None:
                    return False
                return found > bound if self.operator is Operator.GREATER else found < bound

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.EQUALS | Operator.NOT_EQUALS:
                return f"{self.key}{self.operator.value}{self.values[0]}"
            case Operator.GREATER:
                return f"{self.key}>{self.values[0]}"
            case Operator.LESS:
                return f"{self.key}<{self.values[0]}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.value} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; `impossible` matches nothing. Hashable: a key for caches."""

    requirements: tuple[Requirement, ...] = ()
    impossible: bool = False

    @property
    def is_empty(self) -> bool:
        """Matches everything."""
        return not self.requirements and not self.impossible

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.impossible:
            return False
        # A plain loop: this runs once an object and watcher.
        for requirement in self.requirements:  # noqa: SIM110
            if not requirement.matches(labels):
                return False
        return True

    def exact(self, key: str) -> str | None:
        """The one value `key` must have, if the selector says so."""
        for r in self.requirements:
            if r.key == key and r.operator in (Operator.EQUALS, Operator.IN) and len(r.values) == 1:
                return r.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(impossible=True)


def from_map(labels: Mapping[str, str]) -> Selector:
    """All of these labels (the selector of a ReplicationController or a Service). Empty matches everything."""
    return Selector(tuple(Requirement(k, Operator.EQUALS, (v,)) for k, v in sorted(labels.items())))


_OBJECT_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.DOES_NOT_EXIST,
}


def from_label_selector(selector: LabelSelector | None) -> Selector:
    """None matches nothing, an empty one everything. Raises ValueError for an operator that does not exist."""
    if selector is None:
        return NOTHING
    found = [Requirement(k, Operator.EQUALS, (v,)) for k, v in selector.matchLabels.items()]
    for e in selector.matchExpressions:
        operator = _OBJECT_OPERATORS.get(e.operator)
        if operator is None:
            raise ValueError(f'"{e.operator}" is not a valid label selector operator')
        found.append(make_requirement(e.key, operator, e.values))
    return _selector(found)


def make_requirement(key: str, operator: Operator, values: Iterable[str]) -> Requirement:
    """A checked requirement. Raises ValueError with upstream's words."""
    values = tuple(values)
    faults: list[str] = [f"<nil>: Invalid value: {_quote(key)}: {m}" for m in names.check_qualified(key)]
    shown = ",".join(values)
    match operator:
        case Operator.IN | Operator.NOT_IN:
            if not values:
                faults.append("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
        case Operator.EQUALS | Operator.NOT_EQUALS:
            if len(values) != 1:
                faults.append(f"values: Invalid value: [{shown}]: exact-match compatibility requires one single value")
        case Operator.EXISTS | Operator.DOES_NOT_EXIST:
            if values:
                faults.append(
                    f"values: Invalid value: [{shown}]: values set must be empty for exists and does not exist"
                )
        case Operator.GREATER | Operator.LESS:
            faults += _bound_faults(values)
    for i, value in enumerate(values):
        faults += [f"values[{i}][{key}]: Invalid value: {_quote(value)}: {m}" for m in names.check_label_value(value)]
    if faults:
        raise ValueError(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    return Requirement(key, operator, tuple(sorted(set(values))))


def _bound_faults(values: tuple[str, ...]) -> list[str]:
    if len(values) != 1:
        return ["values: Invalid value: []: for 'Gt', 'Lt' operators, exactly one value is required"]
    if _integer(values[0]) is None:
        where = f"values[0]: Invalid value: {_quote(values[0])}"
        return [f"{where}: for 'Gt', 'Lt' operators, the value must be an integer"]
    return []


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def _selector(requirements: list[Requirement]) -> Selector:
    return Selector(tuple(sorted(requirements, key=lambda r: r.key))) if requirements else EVERYTHING


@functools.lru_cache(maxsize=2048)
def parse_selector(text: str) -> Selector:
    """The inverse of `str()`. Raises ValueError with upstream's words."""
    return _selector(list(_Parser(text).requirements())) if text else EVERYTHING


# An identifier is a run of anything that is neither space nor special; its rules are checked afterwards.
_TOKEN = re.compile(r"\s*(?:(==|!=|[=!<>]+|[(),])|([^\s=!<>(),]+))", re.ASCII)
_SYMBOLS = ("==", "!=", "=", "!", "<", ">", "(", ")", ",")
_WORDS = {"in": Operator.IN, "notin": Operator.NOT_IN}
_SIGNS = {
    "=": Operator.EQUALS,
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}


class _Parser:
    """Recursive descent over tokens; "" is the end."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def requirements(self) -> Iterator[Requirement]:
        if not self._peek():
            return
        while True:
            first = self._peek()
            if first != "!" and (not first or first in _SYMBOLS):
                raise ValueError(f"found '{first}', expected: !, identifier, or 'end of string'")
            try:
                yield self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            token = self._next()
            if not token:
                return
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            following = self._peek()
            if following != "!" and (not following or following in _SYMBOLS):
                raise ValueError(f"found '{following}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._next()
        key = self._next()
        if not key or key in _SYMBOLS:
            raise ValueError(f"found '{key}', expected: identifier")
        faults = names.check_qualified(key)
        if faults:
            raise ValueError(f"<nil>: Invalid value: {_quote(key)}: {faults[0]}")
        if absent:
            return Requirement(key, Operator.DOES_NOT_EXIST)
        if self._peek() in ("", ","):
            return Requirement(key, Operator.EXISTS)
        token = self._next()
        if token in _WORDS:
            return make_requirement(key, _WORDS[token], self._set())
        if token in _SIGNS:
            return make_requirement(key, _SIGNS[token], (self._exact(),))
        raise ValueError(f"found '{token}', expected: in, notin, =, ==, !=, gt, lt")

    def _exact(self) -> str:
        token = self._peek()
        if token in ("", ","):
            return ""
        if token in _SYMBOLS:
            raise ValueError(f"found '{token}', expected: identifier")
        return self._next()

    def _set(self) -> list[str]:
        opening = self._next()
        if opening != "(":
            raise ValueError(f"found '{opening}' expected: '('")
        values: list[str] = []
        wants_value = True
        while True:
            token = self._next()
            if token == ")":
                return [*values, ""] if wants_value else values
            if token == ",":
                if wants_value:
                    values.append("")
                wants_value = True
            elif not token or token in _SYMBOLS or not wants_value:
                raise ValueError(f"found '{token}', expected: ',' or ')'")
            else:
                values.append(token)
                wants_value = False


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while match := _TOKEN.match(text, position):
        yield match.group(1) or match.group(2)
        position = match.end()
