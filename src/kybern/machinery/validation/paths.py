"""Paths inside volumes and on hosts."""

from __future__ import annotations

from kybern.machinery.status import invalid
from kybern.machinery.validation.rules import Errors

NO_BACKSTEPS = "must not contain '..'"


def has_backsteps(path: str) -> bool:
    return ".." in path and ".." in path.split("/")


def check_no_backsteps(value: str, path: str, errors: Errors) -> None:
    if has_backsteps(value):
        errors.append(invalid(path, value, NO_BACKSTEPS))


def check_descending(value: str, path: str, errors: Errors) -> None:
    """Relative, and never above where it starts."""
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    check_no_backsteps(value, path, errors)


def check_local(value: str, path: str, errors: Errors) -> None:
    """The same, and not named like the ..data directory that projected files live in."""
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    if has_backsteps(value):
        errors.append(invalid(path, value, NO_BACKSTEPS))
    elif value.startswith(".."):
        errors.append(invalid(path, value, "must not start with '..'"))
