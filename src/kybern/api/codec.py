"""JSON bytes to Structs and back: the one door between the wire and typed objects.

Fed by the API server's handlers and by client/rest. `decode` is strict, `decode_pruned` forgives unknown
fields and nulls and says which it dropped.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kybern.api import scalars
from kybern.api.custom import CustomObject
from kybern.api.meta_v1 import ObjectMeta
from kybern.pausing import pausing

T = TypeVar("T")


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, str):  # Quantity, Time, MicroTime
        return str.__str__(value)
    if isinstance(value, CustomObject):
        return value.document()
    if isinstance(value, scalars.FieldsV1):
        return msgspec.Raw(value.text)
    raise TypeError(f"cannot encode {type(value).__name__}")


def _build_scalar(value: Any) -> Any:
    return msgspec.json.decode(value.text) if isinstance(value, scalars.FieldsV1) else _encode_scalar(value)


def _convert(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook`: scalars and custom objects. Raises ValueError."""
    return _custom_object(value) if kind is CustomObject else scalars.convert_scalar(kind, value)


def _custom_object(value: Any) -> CustomObject:
    if not isinstance(value, dict):
        raise ValueError("a custom object is a JSON object")
    content = dict(value)
    api_version, kind = content.pop("apiVersion", ""), content.pop("kind", "")
    metadata = msgspec.convert(content.pop("metadata", {}), ObjectMeta, dec_hook=scalars.convert_scalar)
    return CustomObject(api_version, kind, metadata, content)


_encoder = msgspec.json.Encoder(enc_hook=_encode_scalar)
encode = _encoder.encode
"""The compact JSON of a Struct, dict or list."""


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_convert)


def decode(kind: type[T], data: bytes) -> T:
    """Strictly typed. Raises msgspec.DecodeError (not JSON) or msgspec.ValidationError (wrong shape)."""
    return typing.cast("T", _decoder(typing.cast("typing.Hashable", kind)).decode(data))


def decode_pruned(kind: type[T], data: bytes) -> tuple[T, list[str]]:
    """Like `decode`, but explicit nulls count as absent and unknown fields are dropped.

    Returns the object and the paths of dropped fields (`spec.containers[0].foo`), in document order.
    """
    try:
        return decode(kind, data), []
    except msgspec.ValidationError:
        return from_json(kind, msgspec.json.decode(data))


def from_json(kind: type[T], value: Any) -> tuple[T, list[str]]:
    """`decode_pruned` for JSON that is decoded already."""
    try:
        return msgspec.convert(value, kind, dec_hook=scalars.convert_scalar), []
    except msgspec.ValidationError:
        pass  # something to prune, or really wrong
    unknown: list[str] = []
    pruned = prune(kind, value, "", unknown)
    return msgspec.convert(pruned, kind, dec_hook=scalars.convert_scalar), unknown


def to_json(obj: Any) -> Any:
    """The object as dicts, lists and scalars."""
    return msgspec.to_builtins(obj, enc_hook=_build_scalar)


def _build_unowned(value: Any) -> Any:
    return None if isinstance(value, scalars.FieldsV1) else _encode_scalar(value)


def to_json_unowned(obj: Any) -> Any:
    """`to_json`, but what its managers own is left undecoded (and told as null)."""
    return msgspec.to_builtins(obj, enc_hook=_build_unowned)


def clone(obj: T) -> T:
    """A deep copy of a Struct (encode and decode: faster than copy.deepcopy)."""
    return decode(type(obj), encode(obj))


@functools.cache
def fields_of(kind: type) -> dict[str, Any]:
    """Wire name -> type of each field of a Struct."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.encode_name: hints[f.name] for f in msgspec.structs.fields(kind)}


def _present(kind: Any, value: Any) -> Any:
    """An item of a list or a map as Go reads it: null is the zero of its type."""
    if value is not None:
        return value
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin = typing.get_origin(kind) or kind
    if origin is list:
        return []
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    if kind is scalars.Quantity:
        return "0"
    return kind() if kind in (str, int, float, bool) else None


def prune(kind: Any, value: Any, path: str, unknown: list[str]) -> Any:
    """A copy of decoded JSON without fields that are null or that `kind` lacks; a null item is an empty one."""
    pruner = _pruner(kind)
    return value if pruner is None else pruner(value, (None, path) if path else None, unknown)


# Where a value stands, the innermost step last: (where its parent stands, field name or index). Rendered when needed.
_Path = tuple[Any, str | int] | None
_Pruner = Callable[[Any, _Path, list[str]], Any]


def _told(path: _Path) -> str:
    """`spec.containers[0].foo`"""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}" if path is not None else step)
    return "".join(reversed(steps))


@functools.cache
def _pruner(kind: Any) -> _Pruner | None:
    """What prunes values of a type, made once; None where there is nothing to prune."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        structured = [a for a in typing.get_args(kind) if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        containers = [a for a in typing.get_args(kind) if typing.get_origin(a) in (list, dict)]
        chosen = (structured or containers or [None])[0]
        return None if chosen is None else _pruner(chosen)
    if origin is list:
        item = typing.get_args(kind)[0]
        return None if item is Any else _list_pruner(item)  # free-form JSON, in which null is a value
    if origin is dict:
        return _dict_pruner(typing.get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct_pruner(kind)
    return None


def _list_pruner(item: Any) -> _Pruner:
    def prune_list(value: Any, path: _Path, unknown: list[str]) -> Any:
        if not isinstance(value, list):
            return value
        pruner = _pruner(item)
        if pruner is None:
            return value if None not in value else [_present(item, v) for v in pausing(value)]
        return [pruner(_present(item, v), (path, i), unknown) for i, v in enumerate(pausing(value))]

    return prune_list


def _dict_pruner(item: Any) -> _Pruner:
    def prune_dict(value: Any, path: _Path, unknown: list[str]) -> Any:
        if not isinstance(value, dict):
            return value
        pruner = _pruner(item)
        if pruner is None:
            return value if None not in value.values() else {k: _present(item, v) for k, v in pausing(value.items())}
        return {k: pruner(_present(item, v), (path, k), unknown) for k, v in pausing(value.items())}

    return prune_dict


def _struct_pruner(kind: type) -> _Pruner:
    known: dict[str, _Pruner | None] = {}  # filled at the first call: types may hold themselves

    def prune_struct(value: Any, path: _Path, unknown: list[str]) -> Any:
        if not isinstance(value, dict):
            return value
        if not known:
            known.update({name: _pruner(field) for name, field in fields_of(kind).items()})
        kept = {}
        for name, inner in pausing(value.items()):
            if name not in known:
                unknown.append(_told((path, name)))
            elif inner is not None:
                pruner = known[name]
                kept[name] = inner if pruner is None else pruner(inner, (path, name), unknown)
        return kept

    return prune_struct
