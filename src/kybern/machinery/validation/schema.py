"""The generic check of kinds without rules of their own: texts that the schema requires must not be empty."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from kybern.api import scalars
from kybern.machinery.status import required
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_SKIPPED = ("kind", "apiVersion", "metadata", "status")


@functools.cache
def _required_texts(kind: Any) -> frozenset[str]:
    return frozenset(f.name for f in msgspec.structs.fields(kind) if f.default_factory is scalars.empty_string)


def check(obj: Any, errors: Errors) -> None:
    for field in msgspec.structs.fields(type(obj)):
        if field.name not in _SKIPPED:
            _walk(getattr(obj, field.name), field.encode_name, errors)
    kind: Any = type(obj)
    for name in _required_texts(kind):
        if name not in _SKIPPED and not getattr(obj, name):
            errors.append(required(name))


def _walk(value: Any, path: str, errors: Errors) -> None:
    if isinstance(value, msgspec.Struct):
        wanted = _required_texts(type(value))
        for field in msgspec.structs.fields(type(value)):
            inner = getattr(value, field.name)
            where = f"{path}.{field.encode_name}"
            if field.name in wanted and not inner:
                errors.append(required(where))
            elif inner is not None and not isinstance(inner, (str, int, float)):
                _walk(inner, where, errors)
    elif isinstance(value, list):
        for i, item in enumerate(pausing(value)):
            _walk(item, f"{path}[{i}]", errors)
    elif isinstance(value, dict):
        for key, item in value.items():
            _walk(item, f"{path}[{key}]", errors)
