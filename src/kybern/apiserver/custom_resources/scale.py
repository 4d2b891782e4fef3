"""Where a custom object keeps its replicas: the paths of the scale subresource, read and written.

Called by strategy. Only plain paths (`.spec.replicas`) are allowed: definition checks them.
"""

from __future__ import annotations

from typing import Any

from kybern.api.apiextensions_v1 import CustomResourceSubresourceScale
from kybern.apiserver.custom_resources import numbers
from kybern.machinery.status import FieldError, invalid

_GO_NAMES: dict[type, str] = {
    str: "string", bool: "bool", float: "float64", int: "int64", list: "[]interface {}",
    dict: "map[string]interface {}",
}  # fmt: skip


def fields_of(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def value_at(content: Any, path: str) -> Any:
    for name in fields_of(path):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def integer_at(content: Any, path: str) -> int:
    value = value_at(content, path)
    return value if type(value) is int else 0


def text_at(content: Any, path: str) -> str:
    value = value_at(content, path)
    return value if isinstance(value, str) else ""


def put(content: dict[str, Any], path: str, value: int) -> None:
    """Set the value, making the objects on the way."""
    *parents, last = fields_of(path)
    for name in parents:
        inner = content.get(name)
        if not isinstance(inner, dict):
            inner = content[name] = {}
        content = inner
    content[last] = value


def check(content: Any, scale: CustomResourceSubresourceScale, errors: list[FieldError]) -> None:
    """The replicas must be what a Scale can tell."""
    for path in (scale.specReplicasPath, scale.statusReplicasPath):
        value = value_at(content, path)
        if value is None:
            continue
        if type(value) is not int:
            shown = numbers.render(value) if isinstance(value, float) else str(value)
            kind = _GO_NAMES.get(type(value), "string")
            errors.append(invalid(path, 0, f"{path} accessor error: {shown} is of the type {kind}, expected int64"))
        elif value < 0:
            errors.append(invalid(path, value, "should be a non-negative integer"))
        elif value > 2**31 - 1:
            errors.append(invalid(path, value, "should be less than or equal to 2147483647"))
    if scale.labelSelectorPath:
        value = value_at(content, scale.labelSelectorPath)
        if value is not None and not isinstance(value, str):
            kind = _GO_NAMES.get(type(value), "string")
            told = f"{scale.labelSelectorPath} accessor error: {value} is of the type {kind}, expected string"
            errors.append(invalid(scale.labelSelectorPath, "", told))
