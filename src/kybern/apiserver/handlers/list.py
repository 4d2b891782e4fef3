"""LIST: join the bytes of what is selected; pages are consistent through resourceVersion and continue.

Reads the watch cache, or the store's history where an exact past revision is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import forms, listing
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.get import too_large
from kybern.apiserver.handlers.listing import Listing
from kybern.apiserver.handlers.selection import Continue, ListOptions, asked_of
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import ResourceStore
from kybern.apiserver.request import Answer, Request
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.watch_cache.hub import Selection
from kybern.apiserver.watch_cache.select import select
from kybern.machinery.status import ApiError
from kybern.storage.interface import Compacted, FutureRevision, Revision

# What a continue token that outlived its revision is answered with, and how to go on.
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


def list_objects(handlers: Handlers, request: Request, served: Served) -> Answer | Awaitable[Answer]:
    """The selected objects. Raises ApiError 400, 406, 410, 504."""
    accepted = negotiate.choose(request.headers.get("accept", ""), False, served.has_protobuf)
    negotiate.check_shape(accepted, served.resource, is_list=True)
    selection, options = asked_of(request, served, watch=False)
    form = handlers.forms.form_of(served, accepted, query.include_object(request))
    found = gather(handlers, served.store, selection, options)
    if isinstance(found, Listing):
        return listing.answer(request, form, accepted, found)
    return _answer_later(request, form, accepted, found)


async def _answer_later(
    request: Request, form: forms.AnyForm, accepted: negotiate.Accepted, coming: Awaitable[Listing]
) -> Answer:
    answer = listing.answer(request, form, accepted, await coming)
    return await answer if isinstance(answer, Awaitable) else answer


def gather(
    handlers: Handlers, store: ResourceStore, selection: Selection, options: ListOptions
) -> Listing | Awaitable[Listing]:
    """What a list of these options holds: of the present, unless they name a past. Raises ApiError 410, 504."""
    past = _past_revision(options, handlers.feed, store.cache.changed_at)
    if past is not None:
        return _list_past(handlers, store, selection, options, past)
    if options.resource_version and int(options.resource_version) > handlers.feed.revision:
        return _list_later(handlers, store, selection, options)
    return _list_now(handlers, store, selection, options)


def _past_revision(options: ListOptions, feed: Feed, changed_at: int) -> int | None:
    """The exact revision asked for, where the present state would not do."""
    if options.token is not None:
        exact = options.token.revision
        if exact < 0:
            return None
    elif options.match == "Exact" or (
        options.limit and options.resource_version not in ("", "0") and not options.match
    ):
        exact = int(options.resource_version)
    else:
        return None
    # Unchanged since: the present is that past. A revision that is compacted is gone all the same.
    return None if max(changed_at, feed.store.oldest) <= exact <= feed.revision else exact


def _list_now(handlers: Handlers, store: ResourceStore, selection: Selection, options: ListOptions) -> Listing:
    revision = handlers.feed.revision
    after = ""
    if options.token is not None:
        after = _key_after(store, selection, options.token)
        if options.token.revision >= 0:
            revision = Revision(options.token.revision)
    elif options.match == "Exact":
        revision = Revision(int(options.resource_version))
    chosen = select(store.cache, selection, after, options.limit + 1 if options.limit else 0)
    token, remaining = "", None
    if options.limit and len(chosen) > options.limit:
        del chosen[options.limit :]
        last = chosen[-1].key
        # How many remain is only known exactly where nothing filters.
        if selection.label_selector is None and selection.field_selector is None:
            remaining = store.cache.count_after(last, selection.namespace)
        token = _token(store, selection, revision, last)
    return Listing(chosen, revision, token, remaining)


def _prefix(store: ResourceStore, selection: Selection) -> str:
    """What the keys of a listing begin with."""
    return f"{store.prefix}{selection.namespace}/" if selection.namespace else store.prefix


def _key_after(store: ResourceStore, selection: Selection, token: Continue) -> str:
    return _prefix(store, selection) + token.after if token.after else ""


def _token(store: ResourceStore, selection: Selection, revision: int, last: str) -> str:
    return Continue(revision, last[len(_prefix(store, selection)) :]).render()


async def _list_later(handlers: Handlers, store: ResourceStore, selection: Selection, options: ListOptions) -> Listing:
    revision = int(options.resource_version)
    try:
        async with asyncio.timeout(3):
            await handlers.feed.wait_until(revision)
    except TimeoutError:
        raise too_large(revision, handlers.feed.revision) from None
    return _list_now(handlers, store, selection, options)


async def _list_past(
    handlers: Handlers, store: ResourceStore, selection: Selection, options: ListOptions, revision: int
) -> Listing:
    prefix = _prefix(store, selection)
    after = _key_after(store, selection, options.token) if options.token is not None else ""
    filtered = selection.label_selector is not None or selection.field_selector is not None
    limit = 0 if filtered else options.limit
    try:
        page = await handlers.feed.store.list(prefix, limit=limit, after=after, revision=Revision(revision))
    except Compacted:
        if options.token is None:
            raise ApiError.expired("The resourceVersion for the provided list is too old.") from None
        error = ApiError.expired(_EXPIRED)
        error.status.metadata.continue_ = Continue(-1, options.token.after).render()
        raise error from None
    except FutureRevision as error:
        raise too_large(revision, error.current) from None
    chosen = [entry for entry in map(store.cache.known, page.records) if selection.matches(entry)]
    remaining: int | None = page.remaining if page.more else None
    more = page.more
    if filtered and options.limit and len(chosen) > options.limit:
        chosen, more = chosen[: options.limit], True
    token = _token(store, selection, revision, chosen[-1].key) if more and chosen else ""
    return Listing(chosen, revision, token, None if filtered else remaining)
