"""Semantic versions. Source: "Kubernetes semver library" in the documentation; semver.org 2.0.0 for the order."""

from __future__ import annotations

import re
from typing import Any

from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import Library, traversal
from kybern.machinery.cel.values import Opaque

LIBRARY = Library(
    """
    semver(string): kubernetes.Semver
    semver(string, bool): kubernetes.Semver
    isSemver(string): bool
    isSemver(string, bool): bool
    kubernetes.Semver -> major(): int
    kubernetes.Semver -> minor(): int
    kubernetes.Semver -> patch(): int
    kubernetes.Semver -> isGreaterThan(kubernetes.Semver): bool
    kubernetes.Semver -> isLessThan(kubernetes.Semver): bool
    kubernetes.Semver -> compareTo(kubernetes.Semver): int
    """
)
_add = LIBRARY.add

_SEMVER = re.compile(
    r"(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_LOOSE = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?((?:[-+].*)?)")


class Semver(Opaque):
    __slots__ = ("numbers", "pre")
    cel_type = "kubernetes.Semver"

    def __init__(self, numbers: tuple[int, int, int], pre: tuple[str, ...]) -> None:
        self.numbers = numbers
        self.pre = pre

    def equals(self, other: Any) -> bool:
        return compare(self, other) == 0


def parse(text: str) -> Semver:
    """Raises ValueError."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    pre = tuple(match[4].split(".")) if match[4] else ()
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in pre):
        raise ValueError(text)
    return Semver((int(match[1]), int(match[2]), int(match[3])), pre)


def normalized(text: str) -> str:
    """`v1.02` becomes `1.2.0`."""
    match = _LOOSE.fullmatch(text)
    if match is None:
        return text
    numbers = [(part or "0").lstrip("0") or "0" for part in match.groups()[:3]]
    return ".".join(numbers) + match[4]


def compare(a: Semver, b: Semver) -> int:
    if a.numbers != b.numbers:
        return 1 if a.numbers > b.numbers else -1
    if not a.pre or not b.pre:
        return bool(b.pre) - bool(a.pre)
    for x, y in zip(a.pre, b.pre, strict=False):
        if x != y:
            return _compare_part(x, y)
    return (len(a.pre) > len(b.pre)) - (len(a.pre) < len(b.pre))


def _compare_part(x: str, y: str) -> int:
    if x.isdigit() and y.isdigit():
        return 1 if int(x[:100]) > int(y[:100]) else -1
    if x.isdigit() != y.isdigit():
        return -1 if x.isdigit() else 1
    return 1 if x > y else -1


def _cost(text: str, _normalize: bool = False) -> int:
    return traversal(text)


@_add("semver", str, cost=_cost)
def _semver(text: str) -> Semver:
    try:
        return parse(text)
    except ValueError:
        raise EvaluationError(_fault(text)) from None


def _fault(text: str) -> str:
    """As the library that upstream uses says it."""
    if not text:
        return "Version string empty"
    parts = text.split(".", 2)
    if len(parts) != 3:
        return "No Major.Minor.Patch elements found"
    patch = re.split(r"[-+]", parts[2], maxsplit=1)[0]
    for name, part in zip(("major", "minor", "patch"), (*parts[:2], patch), strict=True):
        if not part.isascii() or not part.isdigit():
            return f'Invalid character(s) found in {name} number "{part}"'
        if len(part) > 1 and part[0] == "0":
            return f'{name.capitalize()} number must not contain leading zeroes "{part}"'
    return f'Invalid character(s) found in prerelease or build of "{text}"'


@_add("semver", str, bool, cost=_cost)
def _semver_loose(text: str, normalize: bool) -> Semver:
    return _semver(normalized(text) if normalize else text)  # type: ignore[no-any-return]


@_add("isSemver", str, cost=_cost)
def _is_semver(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@_add("isSemver", str, bool, cost=_cost)
def _is_semver_loose(text: str, normalize: bool) -> bool:
    return bool(_is_semver(normalized(text) if normalize else text))


_add("major", Semver)(lambda a: a.numbers[0])
_add("minor", Semver)(lambda a: a.numbers[1])
_add("patch", Semver)(lambda a: a.numbers[2])
_add("isGreaterThan", Semver, Semver)(lambda a, b: compare(a, b) > 0)
_add("isLessThan", Semver, Semver)(lambda a, b: compare(a, b) < 0)
_add("compareTo", Semver, Semver)(compare)
