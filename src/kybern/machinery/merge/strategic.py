"""Strategic merge patch: a merge patch that knows the types, so that lists can be merged too.

Fed with a definition of machinery/schema, which says of each list whether it is replaced or merged, and by which
key. Source: "Strategic Merge Patch" and "Preserve Order in Strategic Merge Patch" in the Kubernetes developer
documentation; where they leave something open, kubectl's answer (see the test), which is also the server's.

What a patch may hold beside values (directives), in any map of it:

    $patch: replace | delete            this map takes the other's place | is emptied; in a list merged by key:
                                        the whole list is replaced by the other items | items of this key go
    $retainKeys: [key, ...]             keys of the document that are not listed go (for unions)
    $deleteFromPrimitiveList/<field>    values which go from a list
    $setElementOrder/<field>            the order of a list; items it does not name stay where they were between

Directives work where the document has something to merge with. A value that the document lacks is taken as it is,
without nulls and without maps that bear `$patch`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from kybern.machinery import schema
from kybern.machinery.merge.errors import MalformedPatch, PatchFailed
from kybern.machinery.schema import Field, Shape
from kybern.pausing import pausing

PATCH = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_FROM = "$deleteFromPrimitiveList"
SET_ORDER = "$setElementOrder"

Key: TypeAlias = tuple[type, Any]
"""What identifies an item of a list: its value, or that of its merge key. 1, 1.0 and true differ."""


def apply(document: Any, patch: Any, definition: str) -> Any:
    """The document with the patch applied; `definition` is of the document. Raises KeyError for an unknown one.

    Raises MalformedPatch (a directive is misused, a field is unknown), PatchFailed (an item lacks its merge key or
    is of another type than those in the document).
    """
    if patch is None:
        return document
    if not isinstance(patch, dict) or not isinstance(document, dict):
        raise MalformedPatch("a strategic merge patch must be a map")
    try:
        return _merge_map(document, patch, Field(Shape.STRUCT, definition), "")
    except RecursionError as error:
        raise MalformedPatch("the patch is nested too deeply") from error


def _merge_map(document: dict[str, Any], patch: dict[str, Any], field: Field, path: str) -> dict[str, Any]:
    if PATCH in patch:
        match patch[PATCH]:
            case "replace":
                return {key: value for key, value in pausing(patch.items()) if key != PATCH}
            case "delete":
                return {}
            case unknown:
                raise MalformedPatch(f"{_at(path)}: unknown patch type: {unknown}; a map can be replaced or deleted")
    merged = dict(document)
    if RETAIN_KEYS in patch:
        _retain(merged, patch, path)
    for key, value in pausing(patch.items()):
        if key.startswith(DELETE_FROM):
            _list_of(key, DELETE_FROM, path)
        elif key.startswith(SET_ORDER):
            _list_of(key, SET_ORDER, path)
        elif key != RETAIN_KEYS:
            _merge_value(merged, key, value, field, path)
    for key, value in pausing(patch.items()):
        if key.startswith(DELETE_FROM):
            _delete_from(merged, _list_of(key, DELETE_FROM, path), value, path)
    for key, value in pausing(patch.items()):
        if key.startswith(SET_ORDER):
            _set_order(merged, document, patch, _list_of(key, SET_ORDER, path), value, field, path)
    return merged


def _merge_value(merged: dict[str, Any], key: str, value: Any, field: Field, path: str) -> None:
    """Put one key of the patch into the map."""
    old, inner = merged.get(key), f"{path}.{key}" if path else key
    if value is None:
        merged.pop(key, None)
    elif key not in merged:
        kept = _without_directives(value)
        if kept is not _NOTHING:
            merged[key] = kept
    elif isinstance(old, dict) and isinstance(value, dict):
        of = _field(field, key, path)
        merged[key] = value if of.replace else _merge_map(old, value, of, inner)
    elif isinstance(old, list) and isinstance(value, list):
        of = _field(field, key, path)
        merged[key] = _merge_list(old, value, of, inner) if of.merge else value
    elif old is None:
        kept = _without_directives(value)
        if kept is not _NOTHING:
            merged[key] = kept
    else:
        merged[key] = value


def _field(parent: Field, key: str, path: str) -> Field:
    """What the schema says of a key of a map described by `parent`."""
    if parent.shape is Shape.STRUCT or (parent.shape is Shape.LIST and parent.definition):
        fields = schema.fields(parent.definition)
        if fields is None:
            return schema.ANY
        if key not in fields:
            kind = parent.definition.rsplit(".", 1)[1]
            raise MalformedPatch(f'{_at(path)}: unable to find api field in struct {kind} for the json field "{key}"')
        return fields[key]
    if parent.shape is Shape.MAP and parent.definition:
        return Field(Shape.STRUCT, parent.definition)
    return schema.ANY


_NOTHING = object()


def _without_directives(value: Any) -> Any:
    """A value new to the document, or _NOTHING."""
    if isinstance(value, dict):
        if value.get(PATCH) is not None:
            return _NOTHING
        kept = {key: _without_directives(inner) for key, inner in pausing(value.items()) if inner is not None}
        return {key: inner for key, inner in pausing(kept.items()) if inner is not _NOTHING}
    if isinstance(value, list):
        return [inner for inner in [_without_directives(i) for i in pausing(value)] if inner is not _NOTHING]
    return value


# -- directives of maps


def _list_of(key: str, directive: str, path: str) -> str:
    """The field a directive is for."""
    prefix, slash, name = key.partition("/")
    if prefix != directive or not slash:
        raise MalformedPatch(f"{_at(path)}: {key}: must be {directive}/<field>")
    return name


def _retain(merged: dict[str, Any], patch: dict[str, Any], path: str) -> None:
    retained = patch[RETAIN_KEYS]
    if not isinstance(retained, list) or not all(isinstance(key, str) for key in retained):
        raise MalformedPatch(f"{_at(path)}: invalid patch format of retainKeys: it must be a list of keys")
    for key, value in patch.items():
        if value is not None and not key.startswith("$") and key not in retained:
            raise MalformedPatch(f"{_at(path)}: invalid patch format of retainKeys: it must hold {key}")
    for key in merged.keys() - set(retained):
        del merged[key]


def _delete_from(merged: dict[str, Any], name: str, values: Any, path: str) -> None:
    old = merged.get(name)
    if values is None:
        merged.pop(name, None)
    elif isinstance(old, list) and isinstance(values, list):
        _check_types([*old, *values], f"{path}.{name}")
        if any(isinstance(value, (dict, list)) for value in values):
            raise MalformedPatch(f"{_at(path)}: {DELETE_FROM}/{name} must hold scalars")
        gone = {_scalar(value) for value in values}
        merged[name] = [value for value in old if _scalar(value) not in gone]


def _set_order(
    merged: dict[str, Any],
    document: dict[str, Any],
    patch: dict[str, Any],
    name: str,
    order: Any,
    field: Field,
    path: str,
) -> None:
    where = f"{path}.{name}" if path else name
    of = _field(field, name, path)
    if name in patch or name in document:
        for value in (order, patch.get(name, []), document.get(name, [])):
            if not isinstance(value, list):
                raise MalformedPatch(f"{where}: {SET_ORDER} needs lists, found {_type_name(value)}")
    if not isinstance(merged.get(name), list) or not order:
        return
    keys = [_key(item, of.merge_key, where) for item in pausing(order)]
    patched = [item for item in pausing(patch.get(name, [])) if not _is_directive(item)]
    if not _is_subsequence([_key(item, of.merge_key, where) for item in pausing(patched)], keys):
        raise MalformedPatch(
            f"{where}: the items of the patch must be among those of {SET_ORDER}/{name}, and in the same order"
        )
    if name in document:
        before = _keys_before(document[name], patch.get(name, []), of.merge_key)
        merged[name] = _ordered(merged[name], keys, before, of.merge_key)


def _keys_before(old: list[Any], patch: list[Any], merge_key: str) -> list[Key]:
    """The document's order, in which new items fill the room that deleted ones leave at the end (as upstream)."""
    deleted = {_identity(item, merge_key) for item in pausing(patch) if _is_directive(item)}
    keys = _keys_of(old, merge_key)
    left = [key for key in keys if key not in deleted]
    known = set(left)
    values = [item for item in pausing(patch) if not _is_directive(item)]
    new = [key for key in _keys_of(values, merge_key) if key not in known]
    return [*left, *new][: len(keys)] if len(left) < len(keys) else keys


# -- lists


def _merge_list(old: list[Any], patch: list[Any], field: Field, path: str) -> list[Any]:
    items = [*old, *patch]
    _check_types(items, path)
    if any(isinstance(item, list) for item in pausing(items)):
        raise PatchFailed(f"{path}: lists of lists cannot be merged")
    if not items:
        return []
    if not isinstance(items[0], dict):
        unique = {_scalar(item): item for item in pausing(items)}
        return _ordered(
            unique.values(), [_scalar(item) for item in pausing(patch)], [_scalar(item) for item in pausing(old)], ""
        )
    if not field.merge_key:
        raise PatchFailed(f"{path}: a list of maps without merge key cannot be merged")
    return _merge_maps(old, patch, field, path)


def _merge_maps(old: list[Any], patch: list[Any], field: Field, path: str) -> list[Any]:
    merge_key = field.merge_key
    values, deleted, is_replaced = _sort_out(patch, merge_key, path)
    if is_replaced:
        return _ordered(values, _keys_of(values, merge_key), (), merge_key)
    merged = [item for item in old if merge_key not in item or _key(item, merge_key, path) not in deleted]
    before = _keys_of(merged, merge_key)
    position = _positions(before)
    order: list[Key] = []
    for value in pausing(values):
        key = _key(value, merge_key, path)
        order.append(key)
        if key in position:
            where = f"{path}[{merge_key}={value[merge_key]}]"
            merged[position[key]] = _merge_map(merged[position[key]], value, field, where)
        else:
            position[key] = len(merged)
            merged.append(value)
    return _ordered(merged, order, before, merge_key)


def _sort_out(patch: list[Any], merge_key: str, path: str) -> tuple[list[Any], set[Key], bool]:
    """A patch list's values, the keys it deletes, and whether it replaces the list."""
    values: list[Any] = []
    deleted: set[Key] = set()
    is_replaced = False
    for item in pausing(patch):
        if PATCH not in item:
            _key(item, merge_key, path)
            values.append(item)
            continue
        match item[PATCH]:
            case "replace":
                is_replaced = True
            case "delete":
                deleted.add(_key(item, merge_key, path))
            case unknown:
                raise MalformedPatch(
                    f"{path}: unknown patch type: {unknown}; in a list items can be deleted, or all replaced"
                )
    return values, deleted, is_replaced


def _ordered(items: Collection[Any], order: Sequence[Key], before: Sequence[Key], merge_key: str) -> list[Any]:
    """The items in the order asked for; those it does not name keep their order and place.

    `before` is the order of the document. Of two items, one named and one not, the first in the document comes
    first; a named one that is new comes first.
    """
    wanted = _positions(order)
    past = _positions(before)
    named: list[tuple[int, int, Any]] = []  # (place wanted, place before or -1, item)
    others: list[tuple[int, Any]] = []  # (place before, item)
    place = -1
    for item in pausing(items):
        key = _identity(item, merge_key)
        place = past.get(key, place)  # an item without key stays behind the one before it
        if key in wanted:
            named.append((wanted[key], past.get(key, -1), item))
        else:
            others.append((place, item))
    named.sort(key=lambda entry: entry[0])
    others.sort(key=lambda entry: entry[0])
    result: list[Any] = []
    upcoming = iter(others)
    other = next(upcoming, None)
    for _, was_at, item in pausing(named):
        while other is not None and other[0] < was_at:
            result.append(other[1])
            other = next(upcoming, None)
        result.append(item)
    if other is not None:
        result.append(other[1])
    result += [item for _, item in upcoming]
    return result


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and PATCH in item


def _positions(keys: Sequence[Key]) -> dict[Key, int]:
    """Where each key occurs first."""
    positions: dict[Key, int] = {}
    for index, key in enumerate(pausing(keys)):
        positions.setdefault(key, index)
    return positions


def _keys_of(items: list[Any], merge_key: str) -> list[Key]:
    return [_identity(item, merge_key) for item in pausing(items)]


def _identity(item: Any, merge_key: str) -> Key:
    """Like `_key`, for items of the document: one without a usable key is like no other."""
    value = item.get(merge_key, _NOTHING) if isinstance(item, dict) else item
    return (object, id(item)) if value is _NOTHING or isinstance(value, (dict, list)) else _scalar(value)


def _key(item: Any, merge_key: str, path: str) -> Key:
    """What identifies an item of the patch. Raises PatchFailed."""
    if not merge_key:
        if isinstance(item, (dict, list)):
            raise PatchFailed(f"{path}: a list of scalars cannot hold {_type_name(item)}")
        return _scalar(item)
    if not isinstance(item, dict):
        raise PatchFailed(f"{path}: each item must be a map with the merge key {merge_key}, found {_type_name(item)}")
    if merge_key not in item:
        raise PatchFailed(f"{path}: an item does not contain the declared merge key: {merge_key}")
    if isinstance(item[merge_key], (dict, list)):
        raise PatchFailed(f"{path}: the merge key {merge_key} must be a scalar, found {_type_name(item[merge_key])}")
    return _scalar(item[merge_key])


def _scalar(value: Any) -> Key:
    return type(value), value


def _is_subsequence(part: list[Key], whole: list[Key]) -> bool:
    rest = iter(whole)
    return all(key in rest for key in part)


def _check_types(items: list[Any], path: str) -> None:
    types = {type(item) for item in items}
    if len(types) > 1 or type(None) in types:
        raise PatchFailed(
            f"{path}: list element types are not identical: {sorted({_type_name(item) for item in items})}"
        )


def _type_name(value: Any) -> str:
    names = {dict: "map", list: "list", str: "string", int: "number", float: "number", bool: "boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _at(path: str) -> str:
    return path or "the patch"
