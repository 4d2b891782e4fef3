"""PUT an object or its status: replace what is stored, unless somebody was faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.apiserver import query
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.create import answer
from kybern.apiserver.handlers.manager import owner_of
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.ownership import FORGET
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery.status import ApiError, FieldError

_NO_VERSION = FieldError(
    "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
)


async def update(handlers: Handlers, request: Request, served: Served) -> Response:
    """The object as stored (201 where the kind may be created by PUT). Raises ApiError."""
    accepted = forms.chosen(request, served)
    resource, info, store = served.resource, request.info, served.store

    def read() -> Any:
        obj = served.to_stored(body.decode_object(request, served.codec, resource.api_version, resource.kind))
        if not obj.metadata.managedFields and body.forgets_managers(request.body):
            obj.metadata.managedFields = list(FORGET)
        metadata.check_name(obj.metadata, info.name)
        metadata.check_namespace(store.resource, obj.metadata, info.namespace)
        if query.check_version(obj.metadata.resourceVersion) == "0":
            obj.metadata.resourceVersion = ""
        return obj

    obj = read()

    def missing() -> Any:
        """PUT may create, for those who may create."""
        handlers.authorize(request, "create")
        return obj

    write = Write(
        request.user,
        body.is_dry_run(request),
        info.subresource,
        warnings=request.warnings,
        owner=owner_of(request, served),
        options=body.write_options(request),
        requested=served.requested,
    )
    may_create = store.strategy.create_on_update and not info.subresource
    data, created = await store.update(
        info.namespace, info.name, _tries(obj, served, read), write, create_missing=missing if may_create else None
    )
    return await answer(handlers, request, served, data, accepted, 201 if created else 200)


def _tries(obj: Any, served: Served, read: Callable[[], Any]) -> Callable[[Entry], Any]:
    """The body as a fresh object a try: a write that lost a race starts again from what the client sent.

    `obj` serves the first try, and is used up by it; `read` makes another for each that follows.
    """
    is_blind = not obj.metadata.resourceVersion and not served.store.strategy.unconditional_update
    sent_uid = obj.metadata.uid or ""
    unused = [obj]

    def next_try(current: Entry) -> Any:
        if is_blind and sent_uid in ("", current.object.metadata.uid):  # another uid is a conflict first
            raise ApiError.invalid(served.resource.group, served.resource.plural, current.name, [_NO_VERSION])
        stored = unused.pop() if unused else read()
        served.check(stored, current.object)
        return stored

    return next_try
