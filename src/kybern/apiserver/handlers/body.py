"""Bytes to objects: the typed door of every write.

Called by the write handlers. Every fault of the client's bytes ends here as an ApiError 400 or 415; unknown and
duplicate fields are refused, told as warnings or ignored, as the request's fieldValidation says.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from kybern.api import protobuf
from kybern.api.meta_v1 import DeleteOptions
from kybern.apiserver import query
from kybern.apiserver.registry.object_codec import ObjectCodec, StructCodec
from kybern.apiserver.request import Request
from kybern.machinery import manifest
from kybern.machinery.status import ApiError, FieldError, invalid, not_supported
from kybern.pausing import pause, pausing

T = TypeVar("T")

_JSON = "application/json"
_YAML = "application/yaml"
ACCEPTED = (_JSON, _YAML, protobuf.CONTENT_TYPE)
_TEXTUAL = (_JSON, _YAML)
# Deeper JSON than any Kubernetes object; Python's own limit must never decide.
MAX_DEPTH = 500
# As many unknown and repeated fields are told (upstream's number); a body may have a million.
MAX_FAULTS = 100


def media_type(request: Request) -> str:
    """The Content-Type without parameters, lower-case; JSON where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() or _JSON


def field_validation(request: Request) -> str:
    """Ignore, Warn or Strict. Raises ApiError 422 for anything else."""
    value = request.flag("fieldValidation") or "Warn"
    if value not in ("Ignore", "Warn", "Strict"):
        raise _bad_option("CreateOptions", not_supported("fieldValidation", value, ("", "Ignore", "Strict", "Warn")))
    return value


def is_dry_run(request: Request) -> bool:
    """Whether `dryRun=All`. Raises ApiError 422 for other values."""
    values = request.query.get("dryRun")
    if not values:
        return False
    for value in values:
        if value != "All":
            raise _bad_option("CreateOptions", not_supported("dryRun", values, ("All",)))
    return True


def write_options(request: Request) -> dict[str, str] | None:
    """What CreateOptions and UpdateOptions say besides dryRun, as admission shows them; None: nothing."""
    query = request.query
    if not query:
        return None
    return {name: request.flag(name) for name in ("fieldManager", "fieldValidation") if request.flag(name)} or None


def _bad_option(kind: str, error: FieldError) -> ApiError:
    return ApiError.invalid("meta.k8s.io", kind, "", [error])


def decode(request: Request, struct: type[T], api_version: str, kind: str, *, also: str = "") -> T:
    """The body as `struct`, which must be of this kind where it names one. Raises ApiError.

    `also`: another version of which the kind is the same.
    """
    obj: T = decode_object(request, StructCodec(struct, api_version), api_version, kind, also=also)
    return obj


def decode_object(request: Request, objects: ObjectCodec, api_version: str, kind: str, *, also: str = "") -> Any:
    """The body as an object of the kind that `objects` knows. Raises ApiError."""
    media = media_type(request)
    accepted = ACCEPTED if objects.struct is not None else _TEXTUAL
    if media not in accepted:
        raise ApiError.unsupported_media_type(accepted)
    if not request.body:
        raise ApiError.bad_request(
            f"the object provided is unrecognized (must be of type {objects.kind}): couldn't get version/kind; "
            "json parse error: unexpected end of JSON input (<empty>)"
        )
    strictness = field_validation(request)
    faults: list[str] = []
    if media == protobuf.CONTENT_TYPE and objects.struct is not None:
        obj = _from_value(_read_protobuf(request.body, objects.struct, api_version, kind), objects, faults)
    elif media == _YAML:
        obj = _from_value(read_yaml(request.body, faults), objects, faults)
    else:
        obj = _from_json(request.body, objects, faults, strictness)
    told_version = getattr(obj, "apiVersion", api_version)
    told_kind = getattr(obj, "kind", kind)
    check_kind(told_version, told_kind, also if also and told_version == also else api_version, kind)
    apply_strictness(request, strictness, faults, f"{_failed(objects)}: ")
    return obj


def _failed(objects: ObjectCodec) -> str:
    return f'{objects.kind} in version "{objects.version}" cannot be handled as a {objects.kind}'


def check_kind(told_version: str, told_kind: str, api_version: str, kind: str) -> None:
    """The body's own words about what it is. Raises ApiError 400."""
    if told_version and told_version != api_version:
        raise ApiError.bad_request(
            f"the API version in the data ({told_version}) does not match the expected API version ({api_version})"
        )
    if told_kind and told_kind != kind:
        raise ApiError.bad_request(f"the kind in the data ({told_kind}) does not match the expected kind ({kind})")


def forgets_managers(data: bytes) -> bool:
    """Whether a JSON or YAML body says `managedFields: []`, which is more than not to speak of them."""
    if b"managedFields" not in data:
        return False
    try:
        value = manifest.parse_yaml(data) if data.lstrip()[:1] != b"{" else msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return isinstance(metadata, dict) and metadata.get("managedFields") == []


def apply_strictness(request: Request, strictness: str, faults: list[str], what: str = "") -> None:
    """Refuse or warn of unknown and duplicate fields. `what` goes in front of a refusal."""
    if not faults or strictness == "Ignore":
        return
    faults = faults[:MAX_FAULTS]
    if strictness == "Strict":
        repeated = [fault for fault in faults if isinstance(fault, _RepeatedKey)]
        if repeated:
            faults = [repeated_keys(repeated), *(fault for fault in faults if not isinstance(fault, _RepeatedKey))]
        raise ApiError.bad_request(f"{what}strict decoding error: {', '.join(faults)}")
    request.warnings.extend(faults)


def _from_json(data: bytes, objects: ObjectCodec, faults: list[str], strictness: str) -> Any:
    try:
        obj = objects.decode_body(data)
    except msgspec.ValidationError:
        # Unknown fields or explicit nulls (both are legal), or a real fault: look closer.
        repeated: list[str] = []
        pause()
        obj = _from_value(read_json(data, repeated), objects, faults)
        # Upstream's decoder of typed objects meets both on its way; untyped ones are read first, then pruned.
        is_mixed = bool(repeated and faults) and objects.struct is not None
        faults[:] = _in_document_order(data, repeated, faults) if is_mixed else [*repeated, *faults]
        return obj
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _not_json(error) from None
    if strictness != "Ignore":
        pause()
        try:
            if _may_repeat_keys(data, msgspec.json.decode(data)):
                _find_duplicates(data, faults)
        except (ValueError, RecursionError) as error:
            raise _not_json(error) from None
    return obj


def _may_repeat_keys(data: bytes, value: Any) -> bool:
    """Whether a key may occur twice: the same JSON without repeats has another length.

    Other spellings of strings and numbers differ in length too, so this only says "look closer".
    """
    return len(msgspec.json.format(data, indent=-1)) != len(msgspec.json.encode(value))


def read_json(data: bytes, faults: list[str] | None = None) -> Any:
    """Untyped JSON; keys that occur twice are told in `faults`. Raises ApiError 400."""
    try:
        value = msgspec.json.decode(data)
        pause()
        check_depth(value)
        if faults is not None and _may_repeat_keys(data, value):
            _find_duplicates(data, faults)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    return value


def _read_protobuf(data: bytes, struct: type[Any], api_version: str, kind: str) -> Any:
    """The JSON value of a protobuf body. Raises ApiError 400."""
    try:
        envelope = protobuf.decode_envelope(data)
        if not (envelope.raw or envelope.kind):
            raise protobuf.ProtobufError("empty body")
        check_kind(envelope.api_version, envelope.kind, api_version, kind)
        if envelope.content_type == _JSON:
            return read_json(envelope.raw)
        return protobuf.to_json(struct, envelope.raw)
    except (protobuf.ProtobufError, RecursionError) as error:
        raise ApiError.bad_request(f"the body is not a valid protobuf message: {error}") from None


def read_yaml(data: bytes, faults: list[str] | None = None) -> Any:
    """Untyped YAML as JSON. Raises ApiError 400."""
    duplicates: list[manifest.Repeated] = []
    try:
        value = manifest.parse_yaml(data, duplicates)
    except manifest.ManifestError as error:
        raise ApiError.bad_request(str(error)) from None
    if faults is not None:
        faults.extend(map(_RepeatedKey, duplicates))
    return value


def repeated_keys(told: Iterable[object]) -> str:
    """Keys that occur twice in YAML, as the library's one error."""
    return "yaml: unmarshal errors:" + "".join(f"\n  {one}" for one in told)


class _RepeatedKey(str):
    """A fault that only YAML has; all of a body are told as one."""

    __slots__ = ()


def check_depth(value: Any) -> None:
    """Raises ValueError for JSON nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in pausing(level):
            if isinstance(item, dict):
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
        if not following:
            return
        level = following
    raise ValueError("exceeded max depth")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all that it says, twice or not."""


def _find_duplicates(data: bytes, faults: list[str]) -> None:
    """Tell the paths of repeated keys, in document order."""

    def look(value: Any, path: str) -> None:
        if isinstance(value, _Pairs):
            seen = set()
            for name, inner in pausing(value):
                where = f"{path}.{name}" if path else name
                if name in seen:
                    faults.append(f'duplicate field "{where}"')
                seen.add(name)
                look(inner, where)
        elif isinstance(value, list):
            for number, inner in enumerate(pausing(value)):
                look(inner, f"{path}[{number}]")

    look(json.loads(data, object_pairs_hook=_Pairs), "")


def _in_document_order(data: bytes, repeated: list[str], unknown: list[str]) -> list[str]:
    """Faults as they occur in a body that parses: a key that is both is told twice."""
    waiting_repeated, waiting_unknown = deque(repeated), deque(unknown)
    ordered: list[str] = []

    def look(value: Any, path: str) -> None:
        if isinstance(value, _Pairs):
            seen = set()
            for name, inner in value:
                where = f"{path}.{name}" if path else name
                if waiting_unknown and waiting_unknown[0] == f'unknown field "{where}"':
                    ordered.append(waiting_unknown.popleft())
                if name in seen and waiting_repeated:
                    ordered.append(waiting_repeated.popleft())
                seen.add(name)
                look(inner, where)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                look(inner, f"{path}[{number}]")

    look(json.loads(data, object_pairs_hook=_Pairs), "")
    return [*ordered, *waiting_repeated, *waiting_unknown]


def _from_value(value: Any, objects: ObjectCodec, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        raise ApiError.bad_request(f"json: cannot unmarshal {go_name(value)} into Go value of type v1.{objects.kind}")
    try:
        check_depth(value)
        pause()
        obj, unknown = objects.from_json(value)
    except (msgspec.ValidationError, RecursionError, ValueError) as error:
        raise ApiError.bad_request(f"{_failed(objects)}: {error}") from None
    faults.extend(f'unknown field "{path}"' for path in unknown)
    return obj


def go_name(value: Any) -> str:
    """What Go's JSON library calls a value."""
    names = {str: "string", list: "array", bool: "bool", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "value")


def _not_json(error: Exception) -> ApiError:
    return ApiError.bad_request(f"the object provided is not valid JSON: {error or 'exceeded max depth'}")


def delete_options(request: Request) -> DeleteOptions:
    """From the body where there is one, and from the query. Raises ApiError."""
    options = DeleteOptions()
    if request.body.strip():
        media = media_type(request)
        if media not in ACCEPTED:
            raise ApiError.unsupported_media_type(ACCEPTED)
        if media == protobuf.CONTENT_TYPE:
            value = _read_delete_options(request.body)
        else:
            value = read_yaml(request.body) if media == _YAML else read_json(request.body)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ApiError.bad_request("the body of a delete must be DeleteOptions")
        kind = value.get("kind")
        if kind not in (None, "", "DeleteOptions"):
            raise ApiError.bad_request(
                f"the kind in the data ({kind}) does not match the expected kind (DeleteOptions)"
            )
        _check_types(value)
        # Clients send it in the apiVersion of the resource's own group.
        options = _from_value(
            {k: v for k, v in value.items() if k not in ("kind", "apiVersion")}, StructCodec(DeleteOptions), []
        )
    else:  # a body says all: what the query says besides does not count
        grace = query.integer(request, "gracePeriodSeconds")
        if grace is not None:
            options.gracePeriodSeconds = grace
        if "propagationPolicy" in request.query:
            options.propagationPolicy = request.flag("propagationPolicy")
        if "orphanDependents" in request.query:
            options.orphanDependents = query.boolean(request, "orphanDependents")
        if request.query.get("dryRun"):
            options.dryRun = request.query["dryRun"]
    check_delete_options(options)
    return options


_TYPES: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("gracePeriodSeconds", int, "int64"),
    ("orphanDependents", bool, "bool"),
    ("propagationPolicy", str, "v1.DeletionPropagation"),
    ("dryRun", list, "[]string"),
)


def _check_types(value: dict[str, Any]) -> None:
    """Raises ApiError 400 in the words of Go's JSON library."""
    for name, kind, told in _TYPES:
        found = value.get(name)
        if found is None or (isinstance(found, kind) and (kind is bool or not isinstance(found, bool))):
            continue
        shown = f"number {found}" if isinstance(found, float) and kind is int else go_name(found)
        raise ApiError.bad_request(
            f"json: cannot unmarshal {shown} into Go struct field DeleteOptions.{name} of type {told}"
        )


def _read_delete_options(data: bytes) -> Any:
    try:
        return protobuf.to_json(DeleteOptions, protobuf.decode_envelope(data).raw)
    except protobuf.ProtobufError as error:
        raise ApiError.bad_request(f"the body is not a valid protobuf message: {error}") from None


def check_delete_options(options: DeleteOptions) -> None:
    """Raises ApiError 422."""
    policies = ("Background", "Foreground", "Orphan")
    policy = options.propagationPolicy
    faults: list[FieldError] = []
    if policy is not None and options.orphanDependents is not None:
        faults.append(
            invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
        )
    if policy is not None and policy not in policies:
        faults.append(not_supported("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil")))
    if any(value != "All" for value in options.dryRun):
        faults.append(not_supported("dryRun", options.dryRun, ("All",)))
    if faults:
        raise ApiError.invalid("meta.k8s.io", "DeleteOptions", "", faults)
    if (options.gracePeriodSeconds or 0) < 0:
        # Upstream treats negative grace periods as the shortest that is not immediate.
        options.gracePeriodSeconds = 1
