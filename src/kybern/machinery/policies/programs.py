"""All expressions of a policy, compiled in the order in which they may refer to each other.

Read by machinery/validation for the faults and by apiserver/admission/policies for the programs. Compiled texts are
remembered: policies are validated and then enforced, and many say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from kybern.machinery.cel import types
from kybern.machinery.cel.errors import CelError, InstantiationError
from kybern.machinery.cel.library import json_patches
from kybern.machinery.cel.program import Environment, Program
from kybern.machinery.cel.program import compile as compile_text
from kybern.machinery.cel.types import ObjectType, Type
from kybern.machinery.policies import environments

_BOOL: Final = (types.BOOL,)
_STRING: Final = (types.STRING,)
_STRING_OR_NULL: Final = (types.STRING, types.NULL)
_APPLIED: Final = (ObjectType("Object", {}).type,)
_PATCHES: Final = (types.list_of(json_patches.PATCH.type),)


@dataclass(frozen=True, slots=True)
class Fault:
    """An expression that cannot be used: where it is, what it says, what is wrong."""

    path: str
    text: str
    message: str
    is_internal: bool = False  # well-formed, but no program can be made of it


@dataclass(slots=True)
class Programs:
    """Of one policy. Where an expression has a fault, its program is None."""

    conditions: list[tuple[str, Program | None]] = field(default_factory=list)
    variables: list[tuple[str, Program | None]] = field(default_factory=list)
    validations: list[tuple[Program | None, Program | None]] = field(default_factory=list)  # expression, message
    annotations: list[tuple[str, Program | None]] = field(default_factory=list)
    mutations: list[Program | None] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, path: str, text: str, environment: Environment, wanted: tuple[Type, ...]) -> Program | None:
        """The program of one expression; what is wrong with it is noted. Empty texts are judged elsewhere."""
        if not text.strip():
            return None
        try:
            program = compiled(text.strip(), environment)
        except CelError as error:
            self.faults.append(Fault(path, text, error.reported, isinstance(error, InstantiationError)))
            return None
        message = _type_fault(program.type, wanted)
        if message:
            self.faults.append(Fault(path, text, message))
            return None
        return program


def conditions_of(conditions: Iterable[Any], path: str, environment: Environment) -> Programs:
    """Of match conditions alone, as webhooks have them."""
    found = Programs()
    for i, condition in enumerate(conditions):
        where = f"{path}[{i}].expression"
        found.conditions.append((condition.name, found.add(where, condition.expression, environment, _BOOL)))
    return found


def of_policy(spec: Any, typed: Environment | None = None) -> Programs:
    """Of a validating or mutating policy of any version. `typed`: see environments.with_variables."""
    has_params = spec.paramKind is not None
    mutations = getattr(spec, "mutations", ())
    mutating = bool(mutations)
    base = environments.with_variables(None, params=has_params, mutating=mutating, typed=typed)
    found = conditions_of(spec.matchConditions, "spec.matchConditions", base)
    known: dict[str, Type] = {}

    def environment(*, authorized: bool = True) -> Environment:
        return environments.with_variables(
            dict(known), params=has_params, authorized=authorized, mutating=mutating, typed=typed
        )

    for i, variable in enumerate(spec.variables):
        program = found.add(f"spec.variables[{i}].expression", variable.expression, environment(), ())
        found.variables.append((variable.name, program))
        known[variable.name] = program.type if program is not None else types.DYN
    full = environment()
    messages = environment(authorized=False)
    for i, validation in enumerate(getattr(spec, "validations", ())):
        path = f"spec.validations[{i}]"
        program = found.add(f"{path}.expression", validation.expression, full, _BOOL)
        message = found.add(f"{path}.messageExpression", validation.messageExpression or "", messages, _STRING)
        found.validations.append((program, message))
    for i, annotation in enumerate(getattr(spec, "auditAnnotations", ())):
        path = f"spec.auditAnnotations[{i}].valueExpression"
        found.annotations.append((annotation.key, found.add(path, annotation.valueExpression, full, _STRING_OR_NULL)))
    for i, mutation in enumerate(mutations):
        found.mutations.append(_mutation(found, mutation, f"spec.mutations[{i}]", full))
    return found


def _mutation(found: Programs, mutation: Any, path: str, environment: Environment) -> Program | None:
    if mutation.patchType == "JSONPatch" and mutation.jsonPatch is not None:
        return found.add(f"{path}.jsonPatch.expression", mutation.jsonPatch.expression or "", environment, _PATCHES)
    if mutation.patchType == "ApplyConfiguration" and mutation.applyConfiguration is not None:
        text = mutation.applyConfiguration.expression or ""
        return found.add(f"{path}.applyConfiguration.expression", text, environment, _APPLIED)
    return None


def _type_fault(found: Type, wanted: tuple[Type, ...]) -> str:
    if not wanted or found in wanted:
        return ""
    shown = _shown(found)
    if len(wanted) == 1:
        return f"must evaluate to {_shown(wanted[0])} but got {shown}"
    return f"must evaluate to one of [{' '.join(map(_shown, wanted))}] but got {shown}"


def _shown(t: Type) -> str:
    return "null_type" if t.kind == "null" else str(t)


@dataclass(frozen=True, slots=True)
class _Key:
    """An environment by what it declares."""

    environment: Environment

    def _parts(self) -> tuple[Any, ...]:
        e = self.environment
        made = e.objects.get(environments.VARIABLES)
        own = tuple((n, f.type) for n, f in made.fields.items()) if made is not None else ()
        return (tuple(e.variables.items()), own, e.libraries)

    def __hash__(self) -> int:
        return hash(self._parts())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._parts() == self._parts()


def compiled(text: str, environment: Environment) -> Program:
    """Raises CelError."""
    if any(kind.kind == "object" and kind.name not in environments.OBJECTS for kind in environment.variables.values()):
        named = {k.name for k in environment.variables.values() if k.kind == "object"} - set(environments.OBJECTS)
        if named != {environments.VARIABLES}:
            return compile_text(text, environment)  # of types made for one policy: not worth remembering
    return _remembered(text, _Key(environment))


@lru_cache(maxsize=4096)
def _remembered(text: str, key: _Key) -> Program:
    return compile_text(text, key.environment)
