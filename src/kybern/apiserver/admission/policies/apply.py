"""What a mutation's expression gives, as a change of the object: an apply configuration, or JSON patch operations.

Called by mutating. Pure; values are those of machinery/cel.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from kybern.machinery.cel import values
from kybern.machinery.cel.library import times
from kybern.machinery.merge import errors, json_patch
from kybern.machinery.merge.structured import combine, typed
from kybern.machinery.merge.structured.errors import TypedError
from kybern.machinery.merge.structured.schema import Kind, Node, resolve
from kybern.machinery.policies.environments import is_apply_type


class NotApplicable(Exception):
    """The message says why, as upstream does."""


def to_json(value: Any, path: str = "Object") -> Any:
    """A value of an expression as JSON; `path` is the type of an `Object...{}` there. Raises NotApplicable."""
    match value:
        case values.Timestamp():
            return times.render_timestamp(value)
        case values.Duration():
            return times.render_duration(value)
        case None | bool() | str() | float():
            return value
        case int():
            return int(value)
        case bytes():
            return base64.b64encode(value).decode()
        case values.Struct():
            if is_apply_type(value.name) and path and value.name != path:
                raise NotApplicable(
                    f'type mismatch: unexpected type name "{value.name}", expected "{path}", '
                    "which matches field name path from root Object type"
                )
            return {name: to_json(v, f"{path}.{name}" if path else "") for name, v in value.fields.items()}
        case values.Optional():
            return to_json(value.value, path) if value.present else None
    if values.is_list(value):
        return [to_json(item, path) for item in value]
    if isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            name = values.from_key(key)
            if not isinstance(name, str):
                raise NotApplicable(f"unexpected type of a key: {values.type_name(name)}")
            found[name] = to_json(item, f"{path}.{name}" if path else "")
        return found
    raise NotApplicable(f"unexpected type: {values.type_name(value)}")


def applied(node: Node, live: Mapping[str, Any], configuration: dict[str, Any]) -> Any:
    """`live` with what the configuration sets. Raises NotApplicable."""
    try:
        typed.check(node, configuration)
    except TypedError as error:
        raise NotApplicable(f"error applying patch: failed to convert patch object to typed object: {error}") from None
    null = _null(node, configuration, "")
    if null:
        raise NotApplicable(f"error applying patch: failed to convert patch object to typed object: {null}")
    atomic = _atomic(node, configuration, "")
    if atomic:
        raise NotApplicable(
            f"error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomic}"
        )
    try:
        return combine.merge(node, live, configuration)
    except TypedError as error:
        raise NotApplicable(f"error applying patch: {error}") from None


_EXPECTED = {"numeric": "numeric (int or float)", Kind.MAP: "map", Kind.LIST: "list"}


def _null(node: Node, value: Any, path: str) -> str:
    """What is said of the first null: CEL's is no value of any type here; "" if there is none."""
    if value is None:
        wanted = _EXPECTED.get(node.scalar) or _EXPECTED.get(node.kind) or node.scalar or "value"
        return f"{path}: expected {wanted}, got structpb.NullValue"
    node = resolve(node, value)
    if isinstance(value, dict):
        for name, inner in value.items():
            own = node.fields.get(name, node.element)
            found = _null(own, inner, f"{path}.{name}") if own is not None else ""
            if found:
                return found
    if isinstance(value, list) and node.element is not None:
        for index, inner in enumerate(value):
            found = _null(node.element, inner, f"{path}[{index}]")
            if found:
                return found
    return ""


def _atomic(node: Node, value: Any, path: str) -> str:
    """Where a value would replace something that is taken whole; "" if nowhere."""
    node = resolve(node, value)
    if node.atomic and isinstance(value, dict | list):
        return path or "."
    if isinstance(value, dict) and node.kind is Kind.MAP:
        for name, inner in value.items():
            own = node.fields.get(name, node.element)
            found = _atomic(own, inner, f"{path}.{name}") if own is not None else ""
            if found:
                return found
    if isinstance(value, list) and node.kind is Kind.LIST and node.element is not None:
        for index, inner in enumerate(value):
            found = _atomic(node.element, inner, f"{path}[{index}]")
            if found:
                return found
    return ""


_OPERATIONS = frozenset({"add", "remove", "replace", "move", "copy", "test"})


def operations_of(value: Any) -> list[dict[str, Any]]:
    """The operations of a list(JSONPatch). Raises NotApplicable."""
    found: list[dict[str, Any]] = []
    for item in value:
        if not isinstance(item, values.Struct):
            raise NotApplicable("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
        operation = {name: to_json(v, "") for name, v in item.fields.items()}
        kind = operation.get("op", "")
        if kind not in _OPERATIONS:
            raise NotApplicable(f"JSON Patch: Unexpected kind: {kind or 'unknown'}")
        operation.setdefault("path", "")
        if kind in ("add", "replace", "test"):
            operation.setdefault("value", None)
        found.append(operation)
    return found


def patched(live: Mapping[str, Any], operations: list[dict[str, Any]]) -> Any:
    """`live` after the operations; unchanged where one of its tests does not hold. Raises NotApplicable."""
    try:
        return json_patch.apply(live, operations)
    except errors.PatchTestFailed:
        return live
    except errors.PatchFailed as error:
        raise NotApplicable(f"JSON Patch: {error}") from None
    except (errors.PatchTooLarge, ValueError) as error:
        raise NotApplicable(f"JSON Patch: {error}") from None
