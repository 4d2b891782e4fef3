"""What a webhook said, read with suspicion. Pure. Used by plugin.

Every message is kube-apiserver's: compared with the answers of one. Where it quotes Go's types, so does this.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.meta_v1 import Status, StatusDetails
from kybern.machinery.status import ApiError

_GROUP = "admission.k8s.io"


class BadAnswer(Exception):
    """The answer is no AdmissionReview that counts; the text goes behind `failed calling webhook "x": `."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer."""

    allowed: bool
    status: Mapping[str, Any] = field(default_factory=dict)
    patch: list[Any] | None = None  # operations of a JSON patch
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)  # of the audit event


def parse(data: bytes, uid: str, review: str, *, may_patch: bool) -> Verdict:
    """Raises BadAnswer. `review` is the version that was sent: v1 is strict, v1beta1 as lax as it always was."""
    document = _document(data)
    _check_type(document, review)
    found = document.get("response")
    if found is None:
        raise _invalid("webhook response was absent")
    response = _object(found, "AdmissionReview.response", "v1.AdmissionResponse")
    allowed = _field(response, "allowed", bool, "bool") or False
    given = _field(response, "uid", str, "types.UID") or ""
    if review == "v1":
        if given != uid:
            raise _invalid(f'expected response.uid="{uid}", got "{given[:256]}"')
        if document.get("kind") != "AdmissionReview":
            said = f"{document.get('apiVersion', '')}, Kind={document.get('kind', '')}"
            raise _invalid(f"expected webhook response of {_GROUP}/v1, Kind=AdmissionReview, got {said}")
    patch = _patch(response, review, may_patch, allowed)
    warnings = _field(response, "warnings", list, "[]string") or []
    annotations = _field(response, "auditAnnotations", dict, "map[string]string") or {}
    for text in (*warnings, *annotations.values()):
        if not isinstance(text, str):
            raise _bad(f"json: cannot unmarshal {_type_of(text)} into Go struct field of type string")
    status = _object(response.get("status") or {}, "AdmissionResponse.response.status", "v1.Status")
    return Verdict(allowed, status, patch, tuple(warnings), annotations)


def _document(data: bytes) -> dict[str, Any]:
    if not data:
        raise _bad("0-length response with status code: 200 and content type: application/json")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _bad(f"couldn't get version/kind; json parse error: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise _bad(f"couldn't get version/kind; json parse error: json: cannot unmarshal {_type_of(document)}")
    return document


def _check_type(document: Mapping[str, Any], review: str) -> None:
    """It must be an AdmissionReview, of the version that was sent; one that does not say may be."""
    kind, api_version = document.get("kind") or "", document.get("apiVersion") or ""
    if not isinstance(kind, str) or not isinstance(api_version, str):
        raise _bad("couldn't get version/kind; json parse error: kind and apiVersion must be strings")
    if kind not in ("", "AdmissionReview") or api_version not in ("", f"{_GROUP}/v1", f"{_GROUP}/v1beta1"):
        if kind == "Status" and api_version == "v1":
            raise _bad(f"converting (v1.Status) to ({review}.AdmissionReview): unknown conversion")
        raise _bad(f'no kind "{kind[:256]}" is registered for version "{api_version[:256]}"')
    version = api_version.partition("/")[2]
    if kind and version and version != review:
        raise _bad(f"converting ({version}.AdmissionReview) to ({review}.AdmissionReview): unknown conversion")


def _patch(response: Mapping[str, Any], review: str, may_patch: bool, allowed: bool) -> list[Any] | None:
    text = _field(response, "patch", str, "[]uint8") or ""
    kind = _field(response, "patchType", str, "v1.PatchType")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _bad("illegal base64 data at input byte 0") from None
    if review != "v1":
        return _operations(data) if data and may_patch and allowed else None
    if not may_patch:
        if data:
            raise _invalid("validating webhook may not return response.patch")
        if kind is not None:
            raise _invalid("validating webhook may not return response.patchType")
        return None
    if data and not kind:
        raise _invalid("webhook returned response.patch but not response.patchType")
    if kind is not None and not data:
        raise _invalid("webhook returned response.patchType but not response.patch")
    return _operations(data) if data and allowed else None


def _operations(data: bytes) -> list[Any]:
    try:
        operations = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadAnswer(f"received undecodable patch in webhook response: {error}") from None
    if operations is None:
        return []
    if not isinstance(operations, list):
        what = f"json: cannot unmarshal {_type_of(operations)} into Go value of type jsonpatch.Patch"
        raise BadAnswer(f"received undecodable patch in webhook response: {what}")
    return operations


def denial(webhook: str, status: Mapping[str, Any]) -> ApiError:
    """The refusal of a webhook as the client gets it: its words, and a code that is an error's."""
    said, code, reason, details = (status.get(k) for k in ("message", "code", "reason", "details"))
    message = said if isinstance(said, str) else ""
    reason = reason if isinstance(reason, str) else ""
    if message or reason:
        told = f'admission webhook "{webhook}" denied the request: {message or reason}'
    else:
        told = f'admission webhook "{webhook}" denied the request without explanation'
    is_error = isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 999
    found: StatusDetails | None = None
    if isinstance(details, dict):
        try:
            found = codec.from_json(StatusDetails, details)[0]
        except (msgspec.ValidationError, ValueError):
            found = None
    answer = Status(
        status="Failure", message=told, reason=reason or None, details=found, code=code if is_error else 400
    )
    return ApiError(answer)


def _bad(why: str) -> BadAnswer:
    return BadAnswer(f"failed to call webhook: {why}")


def _invalid(why: str) -> BadAnswer:
    return BadAnswer(f"received invalid webhook response: {why}")


def _object(value: Any, name: str, go_type: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"json: cannot unmarshal {_type_of(value)} into Go struct field {name} of type {go_type}")
    return value


def _field(response: Mapping[str, Any], name: str, kind: type[Any], go_type: str) -> Any:
    """A member of the response, None where it is absent. Raises BadAnswer for one of another type."""
    value = response.get(name)
    if value is not None and not isinstance(value, kind):
        what = f"json: cannot unmarshal {_type_of(value)} into Go struct field AdmissionResponse.response.{name}"
        raise _bad(f"{what} of type {go_type}")
    return value


def _type_of(value: Any) -> str:
    """What Go's decoder calls it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"
