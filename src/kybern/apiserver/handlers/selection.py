"""What a list or watch asks for: namespace, selectors, resourceVersion. Parsed and checked once.

Used by list, watch and delete_collection. Raises ApiError 400 for what upstream refuses.
"""

from __future__ import annotations

import base64
import functools
import string
from dataclasses import dataclass

import msgspec

from kybern.api import scalars
from kybern.api.resource import Resource
from kybern.apiserver import query
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import ResourceStore
from kybern.apiserver.request import Request
from kybern.apiserver.watch_cache.hub import Selection
from kybern.machinery import fields, labels
from kybern.machinery.status import ApiError, FieldError, forbidden_field

# Seconds; longer ones mean the same, and event loops refuse to count them.
LONGEST_WATCH = 30 * 86400
# Texts longer than this are read each time they come.
_LONGEST_KEPT = 1024


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The query of a list or watch."""

    resource_version: str
    match: str  # resourceVersionMatch
    limit: int
    token: Continue | None
    timeout: int  # seconds, 0: not given
    bookmarks: bool
    send_initial: bool | None


@dataclass(frozen=True, slots=True)
class Continue:
    """Where a listing goes on: after the key `after`, as of `revision` (-1: as of now).

    The key is told from where the listing begins, its namespace: whatever a token says, it names nothing outside.
    """

    revision: int
    after: str

    def render(self) -> str:
        text = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": self.revision, "start": f"/{self.after}\0"})
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


_BASE64 = frozenset(string.ascii_letters + string.digits + "-_")


class _Token(msgspec.Struct):
    """What a token says. Source: the tokens of a v1.36 API server, which this server goes on with."""

    v: str
    rv: scalars.Int64
    start: str


_JSON_BEGINS = tuple(bytes([c]) for c in b'{["-0123456789tfn')


def parse_continue(token: str) -> Continue:
    """The inverse of `Continue.render`. Raises ApiError 400."""
    try:
        _check_base64(token)
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        if not raw.lstrip().startswith(_JSON_BEGINS):
            shown = chr(raw.lstrip()[0]) if raw.strip() else ""
            raise ValueError(
                f"invalid character '{shown}' looking for beginning of value"
                if shown
                else "unexpected end of JSON input"
            )
        found = msgspec.json.decode(raw, type=_Token)
        if found.v != "meta.k8s.io/v1":
            raise ValueError("unrecognized version")
        if found.rv == 0:
            raise ValueError("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
        after = _after(found.start)
    except (ValueError, RecursionError) as error:
        raise ApiError.bad_request(f"invalid continue token: continue key is not valid: {error}") from None
    return Continue(found.rv, after)


def _check_base64(token: str) -> None:
    """Raises ValueError in upstream's words."""
    wrong = next((i for i, letter in enumerate(token) if letter not in _BASE64), None)
    if wrong is None and len(token) % 4 == 1:
        wrong = len(token) - 1
    if wrong is not None:
        raise ValueError(f"illegal base64 data at input byte {wrong}")


def _after(start: str) -> str:
    """The key before the first one that a token wants to see. Raises ValueError for what is no plain path."""
    if not start:
        raise ValueError("encoded start key empty (version meta.k8s.io/v1)")
    key = start.removeprefix("/")
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(start)
    if not key or key.endswith("\0"):
        return key[:-1]
    # A token of another's making, which means this key too. No key lies between it and this one.
    before = ord(key[-1]) - 1
    return key[:-1] + chr(before if before < 0xD800 or before > 0xDFFF else 0xD7FF) + chr(0x10FFFF)


def _read_label_selector(text: str) -> labels.Selector | None:
    selector = labels.parse_selector(text)
    return None if selector.is_empty else selector


def _read_field_selector(text: str) -> fields.FieldSelector | None:
    selector = fields.parse_selector(text)
    return None if selector.is_empty else selector


_kept_label_selector = functools.lru_cache(maxsize=4096)(_read_label_selector)
_kept_field_selector = functools.lru_cache(maxsize=4096)(_read_field_selector)


def _label_selector(text: str) -> labels.Selector | None:
    return _kept_label_selector(text) if len(text) <= _LONGEST_KEPT else _read_label_selector(text)


def _field_selector(text: str) -> fields.FieldSelector | None:
    return _kept_field_selector(text) if len(text) <= _LONGEST_KEPT else _read_field_selector(text)


def asked_of(request: Request, served: Served, *, watch: bool) -> tuple[Selection, ListOptions]:
    """All that the query says, looked at in upstream's order: numbers, selectors, what may stand together, and only
    then whether fields and revisions are there. Raises ApiError."""
    info = request.info
    timeout = query.integer(request, "timeoutSeconds") or 0
    limit = query.integer(request, "limit") or 0
    label_text, field_text = request.flag("labelSelector"), request.flag("fieldSelector")
    try:
        label_selector = _label_selector(label_text)
        field_selector = _field_selector(field_text)
    except ValueError as error:
        raise ApiError.bad_request(str(error)) from None
    token = request.flag("continue")
    version = request.flag("resourceVersion")
    match = request.flag("resourceVersionMatch")
    send_initial = query.boolean(request, "sendInitialEvents") if "sendInitialEvents" in request.query else None
    errors = _watch_faults(match, token, send_initial) if watch else _list_faults(version, match, token, send_initial)
    if errors:
        raise ApiError.invalid("meta.k8s.io", "ListOptions", "", errors)
    if info.name:  # of a watch of one object: a field selector too
        field_text = ",".join(filter(None, (field_text, f"metadata.name={fields.escape(info.name)}")))
        field_selector = _field_selector(field_text)
    if field_selector is not None:
        _check_fields(served, field_selector)
    namespace = info.namespace or None
    selection = Selection(namespace, label_selector, field_selector, (namespace, label_text, field_text))
    start = parse_continue(token) if token else None
    if token and version not in ("", "0"):
        raise ApiError.bad_request("specifying resource version is not allowed when using continue")
    query.check_version(version, "" if watch else "invalid resource version: ")
    version = version.lstrip("0") or version[:1]  # 00 is 0
    if version == "0" and not watch and not token:
        limit = 0  # whatever is at hand, and all of it: as upstream's watch cache answers
    return selection, ListOptions(
        resource_version=version.lstrip("0") or version[:1],  # "00" is as good as "0"
        match=match,
        limit=max(0, limit),
        token=start,
        timeout=min(max(0, timeout), LONGEST_WATCH),
        bookmarks=query.boolean(request, "allowWatchBookmarks"),
        send_initial=send_initial,
    )


_COMMON = frozenset({"metadata.name", "metadata.namespace"})


def _check_fields(served: Served, selector: fields.FieldSelector) -> None:
    known = _selectable(served.store, served.resource)
    resource = served.store.resource
    for name, _, _ in selector.requirements:
        if name in known:
            continue
        if known <= _COMMON and resource.module:
            said = f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        elif resource.group_resource == "jobs.batch":
            said = f'field label "{name}" not supported for Job'
        elif resource.group_resource == "resourceslices.resource.k8s.io":
            said = f"field label not supported for {resource.api_version}, Kind={resource.kind}: {name}"
        else:
            said = f"field label not supported: {name}"
        raise ApiError.bad_request(said)


@functools.lru_cache(maxsize=512)
def _selectable(store: ResourceStore, asked: Resource) -> frozenset[str]:
    return store.strategy.selectable_in(asked)


_MATCH = "resourceVersionMatch"
_WITH_CONTINUE = forbidden_field(_MATCH, "resourceVersionMatch is forbidden when continue is provided")


def _unsupported(match: str, supported: str) -> FieldError:
    return FieldError(
        "FieldValueNotSupported", _MATCH, f'Unsupported value: "{match[:64]}": supported values: {supported}'
    )


def _list_faults(version: str, match: str, token: str, send_initial: bool | None) -> list[FieldError]:
    errors = []
    if match:
        if not version:
            errors.append(
                forbidden_field(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
            )
        if token:
            errors.append(_WITH_CONTINUE)
        if match not in ("Exact", "NotOlderThan"):
            errors.append(_unsupported(match, '"Exact", "NotOlderThan", ""'))
        elif match == "Exact" and version == "0":
            said = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            errors.append(forbidden_field(_MATCH, said))
    if send_initial is not None:
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def _watch_faults(match: str, token: str, send_initial: bool | None) -> list[FieldError]:
    errors = []
    if send_initial is not None and match != "NotOlderThan":
        said = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        errors.append(forbidden_field(_MATCH, said))
    if send_initial is None and match:
        said = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        errors.append(forbidden_field(_MATCH, said))
    if match not in ("", "NotOlderThan"):
        errors.append(_unsupported(match, '"NotOlderThan"'))
    if token:
        errors.append(_WITH_CONTINUE)
    return errors
