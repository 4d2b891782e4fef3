"""Match conditions: expressions that must all be true before a webhook or policy is asked.

Made once for each webhook or policy, asked for each write that its rules and selectors let through.
Source: "Dynamic Admission Control: matching requests with match conditions" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kybern.apiserver.admission import expressions
from kybern.machinery import cel
from kybern.machinery.policies import programs


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

    def __init__(self, conditions: Sequence[Condition], environment: cel.Environment = expressions.CONDITIONS) -> None:
        found = programs.conditions_of(conditions, "matchConditions", environment)
        self._programs = tuple(found.conditions)
        self._faults = tuple(fault.message for fault in found.faults)

    @classmethod
    def of(cls, compiled: programs.Programs) -> MatchConditions:
        """Those of a policy, whose programs are made already."""
        made = cls(())
        made._programs = tuple(compiled.conditions)
        return made

    def __bool__(self) -> bool:
        return bool(self._programs)

    def evaluate(self, sight: Mapping[str, Any]) -> Verdict:
        """One that is false decides, whatever the others are; else an error is an error.

        The caller applies its failurePolicy to `errors`. `sight` is `expressions.Sight` of the write.
        """
        errors = [f"compilation error: {fault}" for fault in self._faults]
        budget = cel.Budget(remaining=expressions.CONDITIONS_LIMIT)
        for name, program in self._programs:
            if program is None:  # stored by another version, which understood it
                continue
            try:
                answer = program.evaluate(sight, budget)
            except (cel.EvaluationError, cel.CostExceeded) as error:
                errors.append(f"expression '{program.text}' resulted in error: {error}")
                continue
            if answer is not True:
                return Verdict(False, failed=name)
        return Verdict(False, errors=tuple(errors)) if errors else _MATCHES
