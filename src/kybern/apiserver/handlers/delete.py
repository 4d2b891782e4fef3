"""DELETE one object, or all that a selection names."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable

from kybern.api import codec
from kybern.api.meta_v1 import Status, StatusDetails
from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import body, forms, listing
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.create import answer
from kybern.apiserver.handlers.list import gather
from kybern.apiserver.handlers.selection import asked_of
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Deleted, Write
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError

# A deletecollection removes so many objects at once.
_AT_ONCE = 64


async def delete(handlers: Handlers, request: Request, served: Served) -> Response:
    """A Status when the object is gone, the object while something holds it. Raises ApiError."""
    accepted = negotiate.choose(request.headers.get("accept", ""), None, served.has_protobuf)
    options = body.delete_options(request)
    info, store = request.info, served.store
    write = Write(
        request.user,
        bool(options.dryRun),
        warnings=request.warnings,
        options=options,
        requested=served.requested,
    )
    done = await store.delete(info.namespace, info.name, options, write)
    if done.gone and not store.strategy.returns_deleted:
        return Response(
            body=forms.encoded(_success(served, info.name, done), accepted), content_type=accepted.content_type
        )
    # Who does not want orphans, and has to wait, is told "accepted".
    waits = not done.gone and options.orphanDependents is False
    return await answer(handlers, request, served, done.data, accepted, 202 if waits else 200)


def _success(served: Served, name: str, done: Deleted) -> bytes:
    resource = served.resource
    details = StatusDetails(name=name, group=resource.group or None, kind=resource.plural, uid=done.uid)
    return codec.encode(Status(status="Success", details=details))


async def delete_collection(handlers: Handlers, request: Request, served: Served) -> Answer:
    """The list of what was deleted, as it was. Raises ApiError."""
    accepted = negotiate.choose(request.headers.get("accept", ""), None, served.has_protobuf)
    negotiate.check_shape(accepted, served.resource, is_list=True)
    selection, listed = asked_of(request, served, watch=False)
    options = body.delete_options(request)
    if listed.resource_version not in ("", "0") and not listed.match:
        # As upstream, which looks at pages: what was there then is deleted, nothing newer.
        listed = dataclasses.replace(listed, match="Exact")
    found = gather(handlers, served.store, selection, listed)
    chosen = found if isinstance(found, listing.Listing) else await found
    entries = chosen.entries
    for start in range(0, len(entries), _AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for entry in entries[start : start + _AT_ONCE]:
                write = Write(
                    request.user,
                    bool(options.dryRun),
                    warnings=request.warnings,
                    options=options,
                    requested=served.requested,
                    is_collection=True,
                )
                group.create_task(
                    _delete_if_there(served, entry.namespace, entry.name, request, write), name=f"delete {entry.key}"
                )
    form = handlers.forms.form_of(served, accepted, query.include_object(request))
    told = listing.answer(request, form, accepted, chosen)
    return await told if isinstance(told, Awaitable) else told


async def _delete_if_there(served: Served, namespace: str, name: str, request: Request, write: Write) -> None:
    """Somebody else may be faster: that is a success as well."""
    try:
        await served.store.delete(namespace, name, body.delete_options(request), write)
    except ApiError as error:
        if not error.is_not_found:
            raise
