"""One policy over one write with one parameter: what its expressions say. Called by both plugins.

Expressions see the write through a View: the shared sight of the write, with the policy's own parameters and variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kybern.apiserver.admission.expressions import Sight
from kybern.apiserver.admission.policies.definitions import Definition
from kybern.machinery import cel
from kybern.machinery.cel.program import Budget, Program
from kybern.machinery.cel.values import ObjectBase

_LONGEST_MESSAGE: Final = 5 * 1024
_LONGEST_ANNOTATION: Final = 10 * 1024
_SPENT: Final = "validation failed due to running out of cost budget, no further validation rules will be run"


class View(dict[str, Any]):
    """The variables of one policy's expressions."""

    def __init__(self, sight: Sight, definition: Definition, params: Any, budget: Budget) -> None:
        super().__init__(params=params)
        self._sight = sight
        self["variables"] = Variables(definition.programs.variables, self, budget)

    def __missing__(self, name: str) -> Any:
        return self._sight[name]


class Variables(ObjectBase):
    """`variables`: each is computed when it is first read, from those before it."""

    __slots__ = ("_budget", "_found", "_programs", "_view")
    cel_type = "kubernetes.variables"

    def __init__(self, programs: list[tuple[str, Program | None]], view: View, budget: Budget) -> None:
        self._programs = dict(programs)
        self._view = view
        self._budget = budget
        self._found: dict[str, Any] = {}

    def field(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._compute(name)
        found = self._found[name]
        if isinstance(found, cel.EvaluationError):
            raise found
        return found

    def _compute(self, name: str) -> Any:
        program = self._programs.get(name)
        if program is None:
            return cel.EvaluationError(f"no such key: {name}")
        try:
            return program.evaluate(self._view, self._budget)
        except cel.EvaluationError as error:
            return cel.EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')

    def has(self, name: str) -> bool:
        return name in self._programs

    def __getitem__(self, name: str) -> Any:
        return self.field(name)

    def __iter__(self) -> Any:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a policy is against a write."""

    message: str
    reason: str = ""  # Invalid, if empty
    index: int = 0  # of the validation


class Evaluation:
    """One policy, one write, one parameter."""

    def __init__(self, definition: Definition, sight: Sight, params: Any) -> None:
        self._definition = definition
        self.budget = Budget()
        self.view = View(sight, definition, params, self.budget)

    def meets_conditions(self) -> bool:
        """Whether the policy is about this write at all. Raises cel.EvaluationError where that cannot be told."""
        definition = self._definition
        if definition.fault:
            if definition.fails_open:
                return False
            raise cel.EvaluationError(f"compilation error: {definition.fault}")
        if not definition.conditions:
            return True
        verdict = definition.conditions.evaluate(self.view)
        if verdict.errors and not definition.fails_open:
            raise cel.EvaluationError(", ".join(verdict.errors))
        return verdict.matches

    def value_of(self, program: Program) -> Any:
        """Raises cel.EvaluationError with the expression in its message."""
        try:
            return program.evaluate(self.view, self.budget)
        except cel.CostExceeded as error:
            if self.budget.remaining <= 0:
                raise cel.EvaluationError(_SPENT) from None
            raise cel.EvaluationError(f"expression '{program.text}' resulted in error: {error}") from None
        except cel.EvaluationError as error:
            raise cel.EvaluationError(f"expression '{program.text}' resulted in error: {error}") from None

    def denials(self) -> list[Denial]:
        """What the validations say against the write."""
        found: list[Denial] = []
        for index, (validation, programs) in enumerate(
            zip(self._definition.spec.validations, self._definition.programs.validations, strict=True)
        ):
            program, message = programs
            assert program is not None, "a policy with faults is not evaluated"
            try:
                if self.value_of(program) is True:
                    continue
            except cel.EvaluationError as error:
                if not self._definition.fails_open:
                    found.append(Denial(str(error), index=index))
                continue
            text = self._message(message) or (validation.message or "").strip()
            text = text or f"failed expression: {validation.expression.strip()}"
            found.append(Denial(text, validation.reason or "", index))
        return found

    def _message(self, program: Program | None) -> str:
        """What the message expression gives; "" where it gives nothing that can be told."""
        if program is None:
            return ""
        try:
            text = program.evaluate(self.view, self.budget)
        except (cel.EvaluationError, cel.CostExceeded):
            return ""
        if not isinstance(text, str) or len(text) > _LONGEST_MESSAGE:
            return ""
        text = text.strip()
        return "" if "\n" in text else text

    def annotations(self) -> tuple[dict[str, str], list[Denial]]:
        """(key -> text, what went wrong with them)."""
        found: dict[str, str] = {}
        denials: list[Denial] = []
        for key, program in self._definition.programs.annotations:
            assert program is not None, "a policy with faults is not evaluated"
            try:
                text = self.value_of(program)
            except cel.EvaluationError as error:
                if not self._definition.fails_open:
                    denials.append(Denial(str(error)))
                continue
            text = text.strip() if isinstance(text, str) else ""
            if text:
                found[key] = text[:_LONGEST_ANNOTATION]
        return found, denials
