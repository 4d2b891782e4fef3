"""Match conditions: expressions that must all be true before a webhook or policy is asked.

Made once for each webhook or policy, asked for each write that its rules and selectors let through.
Source: "Dynamic Admission Control: matching requests with match conditions" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from kybern.apiserver.admission import expressions
from kybern.machinery import cel


class Condition(Protocol):
    """MatchCondition of any version."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`matches`, or not, because of `failed` (a condition's name); or nobody knows: `errors`."""

    matches: bool
    failed: str = ""
    errors: tuple[str, ...] = ()


_MATCHES = Verdict(True)


class MatchConditions:
    """The conditions of one webhook or policy."""

    def __init__(self, conditions: Iterable[Condition], environment: cel.Environment = expressions.CONDITIONS) -> None:
        self._programs = tuple((c.name, _compiled(c.expression, environment)) for c in conditions)

    def __bool__(self) -> bool:
        return bool(self._programs)

    def evaluate(self, sight: Mapping[str, Any]) -> Verdict:
        """One that is false decides, whatever the others are; else an error is an error.

        The caller applies its failurePolicy to `errors`. `sight` is `expressions.Sight` of the write.
        """
        errors: list[str] = []
        budget = cel.Budget(remaining=expressions.CONDITIONS_LIMIT)
        for name, program in self._programs:
            if isinstance(program, str):
                errors.append(program)
                continue
            try:
                answer = program.evaluate(sight, budget)
            except (cel.EvaluationError, cel.CostExceeded) as error:
                errors.append(f"expression '{program.text}' resulted in error: {error}")
                continue
            if answer is not True:
                return Verdict(False, failed=name)
        return Verdict(False, errors=tuple(errors)) if errors else _MATCHES


def _compiled(text: str, environment: cel.Environment) -> cel.Program | str:
    """The program, or what is wrong with it: only possible for what was stored by another version."""
    try:
        return compiled(text.strip(), _Key(environment))
    except cel.CelError as error:
        return f"compilation error: compilation failed: {error}"


@dataclass(frozen=True, slots=True)
class _Key:
    """An environment, known by its identity."""

    environment: cel.Environment

    def __hash__(self) -> int:
        return id(self.environment)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.environment is self.environment


@lru_cache(maxsize=2048)
def compiled(text: str, key: _Key) -> cel.Program:
    return cel.compile(text, key.environment)
