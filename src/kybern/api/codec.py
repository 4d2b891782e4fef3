"""JSON bytes to Structs and back: the one door between the wire and typed objects.

Fed by the API server's handlers and by client/rest. `decode` is strict, `decode_pruned` forgives unknown
fields and nulls and says which it dropped.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, TypeVar

import msgspec

from kybern.api import scalars
from kybern.api.custom import CustomObject
from kybern.api.meta_v1 import ObjectMeta

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
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return value
    if origin in (types.UnionType, typing.Union):
        structured = [a for a in typing.get_args(kind) if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        containers = [a for a in typing.get_args(kind) if typing.get_origin(a) in (list, dict)]
        chosen = (structured or containers or [None])[0]
        return value if chosen is None else prune(chosen, value, path, unknown)
    if origin is list and isinstance(value, list):
        item = typing.get_args(kind)[0]
        if item is Any:
            return value  # free-form JSON, in which null is a value
        return [prune(item, _present(item, v), f"{path}[{i}]", unknown) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        return {k: prune(item, _present(item, v), f"{path}.{k}" if path else k, unknown) for k, v in value.items()}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        known = fields_of(kind)
        kept = {}
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            if name not in known:
                unknown.append(where)
            elif inner is not None:
                kept[name] = prune(known[name], inner, where, unknown)
        return kept
    return value
