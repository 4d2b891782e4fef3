"""PATCH an object or its status: JSON patch, merge patch, strategic merge patch (and apply, in a file of its own).

The patch is applied to what is stored at that moment, and again when another write came first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kybern.apiserver import query
from kybern.apiserver.handlers import apply, body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.create import answer
from kybern.apiserver.handlers.manager import owner_of
from kybern.apiserver.registry.ownership import FORGET
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery.merge import errors, json_patch, merge_patch, strategic
from kybern.machinery.merge.structured import typed
from kybern.machinery.status import ApiError, forbidden_field, invalid

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
ACCEPTED = (JSON_PATCH, MERGE_PATCH, STRATEGIC)
"""What patches an object of any kind, besides apply.MEDIA."""


async def patch(handlers: Handlers, request: Request, served: Served) -> Response:
    """The patched object as stored. Raises ApiError."""
    info = request.info
    media = body.media_type(request)
    if media == apply.MEDIA:
        return await apply.apply(handlers, request, served)
    if media not in ACCEPTED and served.has_protobuf:
        raise ApiError.unsupported_body()
    # A strategic merge needs to know of each list how it merges: only built-in kinds say that.
    known = ACCEPTED if served.has_protobuf else (JSON_PATCH, MERGE_PATCH)
    if media not in known:
        raise ApiError.unsupported_media_type((*known, apply.MEDIA))
    accepted = forms.chosen(request, served)
    strictness = body.field_validation(request)
    faults: list[str] = []
    if "force" in request.query:
        forbidden = forbidden_field("force", "may not be specified for non-apply patch")
        raise ApiError.invalid("meta.k8s.io", "PatchOptions", "", [forbidden])
    try:
        value = body.read_json(request.body, faults)
    except ApiError:
        served.store.entry(info.namespace, info.name)  # whether it is there is looked at first
        raise
    if value is None and media != MERGE_PATCH:
        value = [] if media == JSON_PATCH else {}
    if not isinstance(value, list if media == JSON_PATCH else dict):
        served.store.entry(info.namespace, info.name)  # as above
        raise _misshapen(media)
    with _as_patch_error(value):
        body.apply_strictness(request, strictness, faults)
    change = _Change(request, served, media, value, strictness)
    write = Write(
        request.user,
        body.is_dry_run(request),
        info.subresource,
        warnings=request.warnings,
        owner=owner_of(request, served),
        options=body.write_options(request),
        requested=served.requested,
    )
    data, _ = await served.store.update(info.namespace, info.name, change, write)
    return await answer(handlers, request, served, data, accepted, 200)


def _misshapen(media: str) -> ApiError:
    what = "a JSON patch is an array of operations" if media == JSON_PATCH else "a merge patch is an object"
    return ApiError.bad_request(f"error decoding patch: {what}")


def merger(media: str, value: Any, definition: str) -> Callable[[Any], Any]:
    """The patch as a function of JSON to JSON, which raises ApiError."""

    def merge(document: Any) -> Any:
        try:
            if media == JSON_PATCH:
                return json_patch.apply(document, value)
            if media == MERGE_PATCH:
                return merge_patch.apply(document, value)
            return strategic.apply(document, value, definition)
        except errors.PatchTooLarge as error:
            raise ApiError.too_large(str(error)) from None
        except errors.PatchFailed:
            raise ApiError.unprocessable() from None
        except ValueError as error:
            raise ApiError.bad_request(f"error applying patch: {error}") from None

    return merge


@contextlib.contextmanager
def _as_patch_error(patch: Any, *, as_go: bool = False) -> Iterator[None]:
    """What a patch makes of an object is the patch's fault: 422 instead of 400. `as_go`: shown as Go prints it."""
    try:
        yield
    except ApiError as error:
        fault = invalid("patch", typed.go_value(patch) if as_go else patch, str(error))
        raise ApiError.invalid("", "", "", [fault]) from None


class _Change:
    """The current object to the patched one: a fresh copy a call."""

    def __init__(self, request: Request, served: Served, media: str, value: Any, strictness: str) -> None:
        self._request = request
        self._served = served
        self._media, self._value = media, value
        self._merge = merger(media, value, served.resource.definition)
        self._strictness = strictness
        self._told = False

    def __call__(self, current: Entry) -> Any:
        served = self._served
        resource = served.resource
        document = msgspec.json.decode(served.bytes_from_stored(current.data))
        patched = self._merge(document)
        if not isinstance(patched, dict):
            raise ApiError.unprocessable()
        with _as_patch_error(patched):
            told_version, told_kind = str(patched.get("apiVersion", "")), str(patched.get("kind", ""))
            body.check_kind(told_version, told_kind, resource.api_version, resource.kind)
        try:
            obj, unknown = served.codec.from_json(patched)
        except (msgspec.ValidationError, RecursionError, ValueError) as error:
            raise ApiError.make(
                422, "Invalid", f'the patched {resource.kind} "{current.name}" is not valid: {error}'
            ) from None
        if not self._told:
            self._told = True
            # Of a strategic merge upstream shows what was sent.
            is_strategic = self._media == STRATEGIC
            with _as_patch_error(self._value if is_strategic else patched, as_go=is_strategic):
                body.apply_strictness(self._request, self._strictness, [f'unknown field "{path}"' for path in unknown])
        if obj.metadata.uid != document["metadata"].get("uid", ""):
            fault = invalid("metadata.uid", obj.metadata.uid, "field is immutable")
            raise ApiError.invalid(resource.group, resource.kind, current.name, [fault])
        if (patched.get("metadata") or {}).get("managedFields") == []:
            obj.metadata.managedFields = list(FORGET)
        query.check_version(obj.metadata.resourceVersion)
        stored = served.to_stored(obj)
        served.check(stored, current.object)
        return self._settle_version(stored, current)

    def _settle_version(self, obj: Any, current: Entry) -> Any:
        """A version that the patch itself names is a precondition; the one it was applied to is not."""
        if obj.metadata.resourceVersion in ("0", str(current.revision)):
            obj.metadata.resourceVersion = ""
        return obj
