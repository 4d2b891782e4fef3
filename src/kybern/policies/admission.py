"""`@admission.validate` and `@admission.mutate`: make a policy of a function.

Both are written plain or with arguments. Without targets the annotation of the first parameter says which kinds are
meant (`Pod`, `Pod | Deployment`); targets name others: "widgets.example.com", "pods/exec", "*".
The decorated function stays what it was and can be called in a test.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import msgspec

from kybern.machinery import scheme

F = TypeVar("F", bound=Callable[..., Any])
Target = type[msgspec.Struct] | str
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT", "*"]

_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
# Seconds for one call of one function. A write waits for all of them.
BUDGET = 1.0
LONGEST_BUDGET = 10.0
_MARK = "__kybern_policy__"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Objects of one resource, as `struct` (None: as a dict)."""

    resource: str  # group_resource, or "*"
    subresource: str
    struct: type[msgspec.Struct] | None


@dataclass(frozen=True, slots=True)
class Policy:
    """One function and what it is asked about."""

    function: Callable[..., Any]
    may_change: bool
    wanted: tuple[Wanted, ...]
    operations: tuple[str, ...]
    budget: float
    fails_open: bool
    takes_request: bool

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def line(self) -> int:
        return self.function.__code__.co_firstlineno

    def wanted_of(self, resource: str, subresource: str) -> Wanted | None:
        """How it wants objects of this resource; None if it does not."""
        return next((w for w in self.wanted if w.resource in ("*", resource) and w.subresource == subresource), None)


@overload
def validate(function: F, /) -> F: ...
@overload
def validate(
    *targets: Target, operations: Operation | Sequence[Operation] = ..., budget: float = ..., fails_open: bool = ...
) -> Callable[[F], F]: ...
def validate(*targets: Any, **options: Any) -> Any:
    """The function may refuse: it returns (or yields) what is wrong, and nothing when all is well.

    `operations`: CREATE and UPDATE unless said otherwise; on DELETE the object is the one that goes. `budget`: seconds
    that a call may take. `fails_open`: let the write pass, with a warning, when the function fails.
    """
    return _decorate(targets, options, may_change=False)


@overload
def mutate(function: F, /) -> F: ...
@overload
def mutate(
    *targets: Target, operations: Operation | Sequence[Operation] = ..., budget: float = ..., fails_open: bool = ...
) -> Callable[[F], F]: ...
def mutate(*targets: Any, **options: Any) -> Any:
    """The function changes its object in place (or returns another one of the kind).

    It may be called twice for one write, so doing it again must change nothing. Options as `validate`.
    """
    return _decorate(targets, options, may_change=True)


def policy_of(value: Any) -> Policy | None:
    """What a decorator left on a function."""
    found = getattr(value, _MARK, None) if inspect.isfunction(value) else None
    return found if isinstance(found, Policy) else None


def _decorate(targets: tuple[Any, ...], options: dict[str, Any], *, may_change: bool) -> Any:
    if len(targets) == 1 and inspect.isfunction(targets[0]) and not options:
        return _marked(targets[0], (), {}, may_change)
    return lambda function: _marked(function, targets, options, may_change)


def _marked(function: Any, targets: tuple[Any, ...], options: dict[str, Any], may_change: bool) -> Any:
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError("a policy is a plain function: def name(obj: Kind) -> None")
    unknown = set(options) - {"operations", "budget", "fails_open"}
    if unknown:
        raise TypeError(f"policy {function.__name__}: no such option: {', '.join(sorted(unknown))}")
    budget = float(options.get("budget", BUDGET))
    if not 0 < budget <= LONGEST_BUDGET:
        raise ValueError(
            f"policy {function.__name__}: the budget is at most {LONGEST_BUDGET:g} seconds, not {budget:g}"
        )
    parameters = list(inspect.signature(function).parameters.values())
    if not 1 <= len(parameters) <= 2:
        raise TypeError(f"policy {function.__name__}: wants the object and, if need be, the request as parameters")
    structs = _annotated(function, parameters[0].name)
    policy = Policy(
        function=function,
        may_change=may_change,
        wanted=_wanted(function.__name__, targets, structs),
        operations=_operations(function.__name__, options.get("operations", ("CREATE", "UPDATE"))),
        budget=budget,
        fails_open=bool(options.get("fails_open", False)),
        takes_request=len(parameters) == 2,
    )
    setattr(function, _MARK, policy)
    return function


def _annotated(function: Any, parameter: str) -> tuple[type[msgspec.Struct], ...]:
    """The kinds that the annotation of the first parameter names."""
    hint = typing.get_type_hints(function).get(parameter)
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return tuple(h for h in options if isinstance(h, type) and issubclass(h, msgspec.Struct))


def _operations(name: str, given: Any) -> tuple[str, ...]:
    asked = (given,) if isinstance(given, str) else tuple(given)
    if "*" in asked:
        return _OPERATIONS
    wrong = [o for o in asked if o not in _OPERATIONS]
    if wrong or not asked:
        raise ValueError(f"policy {name}: operations are {', '.join(_OPERATIONS)}, not {', '.join(map(str, wrong))}")
    return asked


def _wanted(name: str, targets: tuple[Any, ...], structs: tuple[type[msgspec.Struct], ...]) -> tuple[Wanted, ...]:
    if not targets:
        if not structs:
            raise TypeError(f"policy {name}: say which kind it is for, as in def {name}(pod: Pod)")
        targets = structs
    found = []
    for target in targets:
        if isinstance(target, str):
            resource, _, subresource = target.partition("/")
            # One kind was named: these are objects of it. None, or several: they come as JSON.
            found.append(Wanted(resource, subresource, structs[0] if len(structs) == 1 else None))
        else:
            found.append(Wanted(_resource_of(name, target), "", target))
    return tuple(found)


def _resource_of(name: str, struct: Any) -> str:
    try:
        return scheme.resource_of(struct).group_resource
    except (KeyError, AttributeError, TypeError):
        shown = getattr(struct, "__name__", struct)
        raise TypeError(f"policy {name}: {shown} is not a kind that can be written") from None
