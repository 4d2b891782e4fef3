"""What requests and answers carry, as audit events show it: bodies as JSON on one line, the object's reference. Pure.

Used by record. Bodies that are no objects are left out: the answer says why they were refused.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from kybern.api import codec, protobuf
from kybern.apiserver.request import Request, RequestInfo, Response
from kybern.machinery import manifest, scheme

_JSON = "application/json"
_STATUS_FIELDS = ("metadata", "status", "message", "reason", "details")
_YAML = "application/yaml"


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta | None = None


class _Kind(msgspec.Struct):
    kind: str = ""


_object_decoder = msgspec.json.Decoder(_Object)
_kind_decoder = msgspec.json.Decoder(_Kind)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def reference(request: Request, info: RequestInfo, *, with_body: bool) -> dict[str, str]:
    """`objectRef`: by the path, and (with_body) by the metadata of what was sent."""
    meta = _sent_metadata(request, info) if with_body else _Meta()
    found = {
        "resource": info.plural,
        "namespace": info.namespace,
        "name": info.name or meta.name,
        "uid": meta.uid,
        "apiGroup": info.group,
        "apiVersion": info.version,
        "resourceVersion": meta.resourceVersion,
        "subresource": info.subresource,
    }
    return {key: value for key, value in found.items() if value}


def _sent_metadata(request: Request, info: RequestInfo) -> _Meta:
    if info.verb not in ("create", "update") or not request.body or info.subresource:
        return _Meta()
    value = _as_json(request.headers.get("content-type", ""), request.body)
    if value is None:
        return _Meta()
    try:
        return _object_decoder.decode(value).metadata or _Meta()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Meta()


def request_object(request: Request, omit_managed_fields: bool) -> msgspec.Raw | None:
    """What was sent, with kind and version where it left them out."""
    value = _as_json(request.headers.get("content-type", ""), request.body)
    return None if value is None else _shown(value, omit_managed_fields)


def response_object(answer: Response, omit_managed_fields: bool) -> msgspec.Raw | None:
    value = _as_json(answer.content_type, answer.body)
    return None if value is None else _shown(value, omit_managed_fields)


def status_of(answer: Response) -> dict[str, Any]:
    """`responseStatus`: a Status that is the answer, or its code alone."""
    if answer.status >= 400 or answer.body.startswith(b'{"kind":"Status"'):
        value = _as_json(answer.content_type, answer.body)
        try:
            if value is not None and _kind_decoder.decode(value).kind == "Status":
                told: dict[str, Any] = msgspec.json.decode(value)
                shown: dict[str, Any] = {k: told[k] for k in _STATUS_FIELDS if k in told}
                return {"metadata": {}, **shown, "code": answer.status}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    return {"metadata": {}, "code": answer.status}


def _as_json(content_type: str, body: bytes) -> bytes | None:
    """The body as JSON, perhaps on several lines; None if it is none, or is said to be something else."""
    media = content_type.partition(";")[0].strip().lower()
    try:
        if media == _YAML:
            return msgspec.json.encode(manifest.parse_yaml(body))
        if media == protobuf.CONTENT_TYPE:
            envelope = protobuf.decode_envelope(body)
            if envelope.content_type == _JSON:
                return envelope.raw
            struct = scheme.struct_of(envelope.api_version, envelope.kind)
            if struct is None:
                return None
            return codec.encode(codec.from_json(struct, protobuf.to_json(struct, envelope.raw))[0])
    except (ValueError, msgspec.MsgspecError, protobuf.ProtobufError, RecursionError):
        return None
    return body if not media or media.endswith("json") else None


def _shown(value: bytes, omit_managed_fields: bool) -> msgspec.Raw | None:
    """On one line, or None where it is not JSON after all."""
    try:
        if omit_managed_fields:
            decoded = msgspec.json.decode(value)
            _drop_managed_fields(decoded)
            return msgspec.Raw(msgspec.json.encode(decoded))
        msgspec.json.decode(value)  # `format` is less strict
        return msgspec.Raw(msgspec.json.format(value, indent=-1))
    except (ValueError, RecursionError):
        return None


def _drop_managed_fields(value: Any) -> None:
    """Of an object, and of those in a list."""
    if not isinstance(value, dict):
        return
    if isinstance(value.get("metadata"), dict):
        value["metadata"].pop("managedFields", None)
    items = value.get("items")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("metadata"), dict):
            item["metadata"].pop("managedFields", None)
