"""GET one object: a dictionary look-up and its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError

# Objects that are asked for again and again have their bytes at hand: so many, each of at most so many bytes.
RECENT = 512
RECENT_BYTES = 16 * 1024


def get(handlers: Handlers, request: Request, served: Served) -> Answer | Awaitable[Answer]:
    """The object as the client accepts it. Raises ApiError 404, 406."""
    if "resourceVersion" in request.query:
        version = int(query.resource_version(request) or 0)
        if version > handlers.feed.revision:
            return _get_later(handlers, request, served, version)
    return _get_now(handlers, request, served)


def _get_now(handlers: Handlers, request: Request, served: Served) -> Response:
    accept = request.headers.get("accept")
    accepted = forms.chosen(request, served) if accept else negotiate.PLAIN
    info = request.info
    entry = served.store.cache.get(info.namespace, info.name)
    if entry is None:
        raise ApiError.not_found(served.resource.group, served.resource.plural, info.name)
    if accepted is negotiate.PLAIN and served.is_stored_version:
        body = handlers.recent.get(entry)
        if body is None:
            body = entry.data
            if len(body) <= RECENT_BYTES:
                if len(handlers.recent) >= RECENT:
                    handlers.recent.clear()
                handlers.recent[entry] = body
        return Response(body=body)
    form = handlers.forms.form_of(served, accepted, query.include_object(request))
    return Response(body=forms.encoded(form.object_bytes(entry), accepted), content_type=accepted.content_type)


async def _get_later(handlers: Handlers, request: Request, served: Served, revision: int) -> Answer:
    """The client has seen a revision this server has not: wait for it."""
    try:
        async with asyncio.timeout(3):
            await handlers.feed.wait_until(revision)
    except TimeoutError:
        raise too_large(revision, handlers.feed.revision) from None
    return _get_now(handlers, request, served)


def too_large(asked: int, current: int) -> ApiError:
    """504: the resourceVersion lies in the future."""
    from kybern.api.meta_v1 import StatusCause

    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    cause = StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version")
    return ApiError.make(504, "Timeout", message, causes=[cause], retry_after=1)
