"""JSON patch, RFC 6902: operations one after the other, all or none.

Follows the server where it is laxer than the RFC: an index may be negative (from the end), `replace` and a null
`test` accept a missing member of a map, a missing `value` is null. Bounded: at most 10,000 operations, and what
`copy` adds in sum (each copy can double the document).
"""

from __future__ import annotations

import re
from typing import Any

from kybern.api import codec
from kybern.machinery.merge.errors import MalformedPatch, PatchFailed, PatchTestFailed, PatchTooLarge
from kybern.pausing import pausing

MAX_OPERATIONS = 10_000  # kube-apiserver: maxJSONPatchOperations
MAX_COPIED = 3 << 20  # bytes of JSON; kube-apiserver: MaxRequestBodyBytes

_INDEX = re.compile(r"[+-]?[0-9]{1,9}")
_MISSING = object()


def apply(document: Any, operations: Any) -> Any:
    """The document after all operations.

    Raises MalformedPatch (not a list of maps), PatchTooLarge, PatchTestFailed, PatchFailed (a path is missing, an
    operation is unknown or incomplete).
    """
    if operations is None:
        return document
    if not isinstance(operations, list) or not all(isinstance(o, dict) or o is None for o in pausing(operations)):
        raise MalformedPatch("a JSON patch must be a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise PatchTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    try:
        patched = _Patched(_copy(document))
        for operation in pausing(operations):
            patched.do(operation or {})
    except RecursionError as error:
        raise MalformedPatch("the document or the patch is nested too deeply") from error
    return patched.root


class _Patched:
    """The document while it is being changed; all of it is ours to change."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._copied = 0  # bytes, by all `copy` operations

    def do(self, operation: dict[str, Any]) -> None:
        match operation.get("op"):
            case "add":
                self._add("add", _path(operation, "path"), _copy(operation.get("value")))
            case "remove":
                self._remove("remove", _path(operation, "path"))
            case "replace":
                self._replace(_path(operation, "path"), _copy(operation.get("value")))
            case "move":
                source = _path(operation, "from")
                self._add("move", _path(operation, "path"), self._remove("move", source))
            case "copy":
                source = _path(operation, "from")
                value = self._get("copy", source)
                self._count(value)
                self._add("copy", _path(operation, "path"), _copy(None if value is _MISSING else value))
            case "test":
                path = _path(operation, "path")
                value = self._get("test", path)
                if not _equal(None if value is _MISSING else value, operation.get("value")):
                    raise PatchTestFailed(f"testing value {path} failed: test failed")
            case unknown:
                raise PatchFailed(f"Unexpected kind: {unknown if isinstance(unknown, str) else 'unknown'}")

    def _add(self, op: str, path: str, value: Any) -> None:
        container, key = self._container(op, path)
        if isinstance(container, dict):
            container[key] = value
        else:
            container.insert(len(container) if key == "-" else _index(op, path, key, len(container) + 1), value)

    def _remove(self, op: str, path: str) -> Any:
        container, key = self._container(op, path)
        if isinstance(container, list):
            return container.pop(_index(op, path, key, len(container)))
        if key not in container:
            raise PatchFailed(
                f"error in {op} for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            )
        return container.pop(key)

    def _replace(self, path: str, value: Any) -> None:
        if path == "":
            self.root = value
            return
        container, key = self._container("replace", path)
        if isinstance(container, dict):
            container[key] = value
        else:
            container[_index("replace", path, key, len(container))] = value

    def _get(self, op: str, path: str) -> Any:
        """The value, or _MISSING for a member that a map lacks."""
        if path == "":
            return self.root
        container, key = self._container(op, path)
        if isinstance(container, dict):
            return container.get(key, _MISSING)
        return container[_index(op, path, key, len(container))]

    def _container(self, op: str, path: str) -> tuple[Any, str]:
        """The map or list in which the path ends, and the last part of the path."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
        value = self.root
        if len(parts) < 2 or parts[0]:
            raise _no_path(op, path)
        for part in parts[1:-1]:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and _INDEX.fullmatch(part) and -len(value) <= int(part) < len(value):
                value = value[int(part)]
            else:
                raise _no_path(op, path)
        if not isinstance(value, (dict, list)):
            raise _no_path(op, path)
        return value, parts[-1]

    def _count(self, value: Any) -> None:
        if value is not _MISSING:
            self._copied += len(codec.encode(value))
        if self._copied > MAX_COPIED:
            raise PatchTooLarge(
                f"the copy operations of a JSON patch may add {MAX_COPIED} bytes, this one adds {self._copied}"
            )


def _path(operation: dict[str, Any], member: str) -> str:
    path = operation.get(member)
    if not isinstance(path, str):
        raise PatchFailed(f"{operation['op']} operation failed to decode {member}: missing value")
    return path


def _no_path(op: str, path: str) -> PatchFailed:
    return PatchFailed(f'{op} operation does not apply: doc is missing path: "{path}": missing value')


def _index(op: str, path: str, part: str, length: int) -> int:
    """The position, from 0; a negative part counts from the end."""
    if not _INDEX.fullmatch(part):
        raise PatchFailed(f"error in {op} for path: '{path}': value was not a proper array index: '{part}'")
    index = int(part)
    if not -length <= index < length:
        raise PatchFailed(f"error in {op} for path: '{path}': Unable to access invalid index: {part}")
    return index % length


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in pausing(value.items())}
    if isinstance(value, list):
        return [_copy(inner) for inner in pausing(value)]
    return value


def _equal(left: Any, right: Any) -> bool:
    """Equal as JSON: numbers by value, true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(inner, right[key]) for key, inner in pausing(left.items()))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
