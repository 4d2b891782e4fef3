"""POST to a collection: decode, admit, validate, store, answer 201."""

from __future__ import annotations

from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.manager import owner_of
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.machinery.status import ApiError


async def create(handlers: Handlers, request: Request, served: Served) -> Response:
    """The new object as stored. Raises ApiError."""
    accepted = forms.chosen(request, served)
    resource, info = served.resource, request.info
    obj = body.decode_object(request, served.codec, resource.api_version, resource.kind)
    if resource.namespaced and not info.namespace:
        raise ApiError.method_not_allowed(resource.group, resource.plural, "create")
    write = Write(
        request.user,
        body.is_dry_run(request),
        warnings=request.warnings,
        owner=owner_of(request, served),
        options=body.write_options(request),
        requested=served.requested,
    )
    stored = served.to_stored(obj)
    served.check(stored, None)
    data = await served.store.create(stored, info.namespace, write)
    return await answer(handlers, request, served, data, accepted, 201)


async def answer(
    handlers: Handlers, request: Request, served: Served, data: bytes, accepted: negotiate.Accepted, status: int
) -> Response:
    """A write's answer: the object in the form that the client accepts."""
    if accepted is negotiate.PLAIN and served.is_stored_version:
        return Response(status=status, body=data)
    if served.warm is not None:
        await served.warm((data,))
    form = handlers.forms.form_of(served, accepted, query.include_object(request))
    return Response(status=status, body=forms.encoded(form.whole(data), accepted), content_type=accepted.content_type)
