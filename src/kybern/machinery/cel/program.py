"""Compile an expression against an environment, and evaluate it within a budget. The door of machinery/cel.

Called by custom resources, admission policies and match conditions. Pure; programs may be shared and kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from kybern.machinery import metrics
from kybern.machinery.cel import declarations, functions, parser, syntax_errors, validators
from kybern.machinery.cel.ast import Node
from kybern.machinery.cel.checker import Checker
from kybern.machinery.cel.errors import CelError, CostExceeded, EvaluationError, Faulty, InstantiationError, Issue
from kybern.machinery.cel.evaluate import Builder, Frame
from kybern.machinery.cel.functions import Library
from kybern.machinery.cel.library import LIBRARIES
from kybern.machinery.cel.types import ObjectType, Type

# kube-apiserver: the cost that one evaluation may have, and all of one object or policy together.
PER_CALL_LIMIT: Final = 1_000_000
TOTAL_LIMIT: Final = 10_000_000
# No text of a program is longer: an object is at most 3 MiB, and rules are written by people.
MAX_TEXT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Environment:
    """What an expression may name: variables with their types, object types, libraries."""

    variables: Mapping[str, Type]
    objects: Mapping[str, ObjectType] = field(default_factory=dict)
    libraries: tuple[Library, ...] = LIBRARIES


@dataclass(slots=True)
class Budget:
    """What evaluations may still cost, together and each. Shared by the rules of one object or policy."""

    remaining: int = TOTAL_LIMIT
    per_call: int = PER_CALL_LIMIT


class Program:
    """A checked expression."""

    __slots__ = ("_slots", "_step", "node", "text", "type")

    def __init__(self, text: str, node: Node, result: Type, environment: Environment) -> None:
        self.text = text
        self.node = node
        self.type = result
        builder = Builder(_table(environment.libraries), environment.objects, environment.variables)
        self._step = builder.build(node)
        self._slots = builder.slots

    def evaluate(self, bindings: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value. Raises EvaluationError, or CostExceeded when the call or the budget is spent.

        `bindings` gives the variables' values: plain JSON values, or those of `schema_values.adapt` where the variable
        has a declared type. A mapping that computes its values when they are read is welcome.
        """
        if budget is None:
            budget = Budget()
        frame = Frame(bindings, self._slots, min(budget.per_call, budget.remaining))
        began = time.perf_counter()
        try:
            return self._step(frame)
        except RecursionError:
            raise EvaluationError("expression is nested too deeply") from None
        finally:
            budget.remaining = max(0, budget.remaining - frame.cost)
            _EVALUATED.observe(time.perf_counter() - began)


_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Of the whole process, as a program does not know whose it is.
COMPILATIONS = metrics.Histogram(
    "apiserver_cel_compilation_duration_seconds", "[BETA] CEL compilation time in seconds.", (), _BOUNDS
)
EVALUATIONS = metrics.Histogram(
    "apiserver_cel_evaluation_duration_seconds", "[BETA] CEL evaluation time in seconds.", (), _BOUNDS
)
_COMPILED, _EVALUATED = COMPILATIONS.of(()), EVALUATIONS.of(())


def compile(text: str, environment: Environment) -> Program:
    """Raises CelError: what upstream's compiler says, less its prefix."""
    began = time.perf_counter()
    try:
        return _compile(text, environment)
    finally:
        _COMPILED.observe(time.perf_counter() - began)


def _compile(text: str, environment: Environment) -> Program:
    if len(text) > MAX_TEXT:
        raise CelError(
            "", [Issue(-1, f"expression code point size exceeds limit: size: {len(text)}, limit {MAX_TEXT}")]
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CelError("", [Issue(-1, "expression is no valid text")]) from None
    try:
        node = parser.parse(text)
        checker = Checker(text, environment.variables, _declared(environment.libraries), environment.objects)
        result = checker.check(node)
        try:
            validators.validate(text, node, _table(environment.libraries))
        except InstantiationError as error:
            error.type = result
            raise
        return Program(text, node, result, environment)
    except Faulty as error:
        raise syntax_errors.worded(text, error.issue) from None
    except RecursionError:
        raise CelError(text, [Issue(-1, "expression recursion limit exceeded: 250")]) from None


@lru_cache(maxsize=16)
def _declared(libraries: tuple[Library, ...]) -> declarations.Functions:
    return declarations.merge(*(declarations.parse(library.signatures) for library in libraries))


@lru_cache(maxsize=16)
def _table(libraries: tuple[Library, ...]) -> functions.Table:
    return functions.merge(libraries)


__all__ = [
    "COMPILATIONS",
    "EVALUATIONS",
    "Budget",
    "CelError",
    "CostExceeded",
    "Environment",
    "EvaluationError",
    "Program",
    "compile",
]
