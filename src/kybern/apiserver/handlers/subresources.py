"""Subresources and questions that need more than the registry: tokens, reviews, the way to kubelets.

Installed into `Handlers` by server. Each handler is a closure over what it needs.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any

from kybern.api import codec
from kybern.api.authentication_v1 import SelfSubjectReview, TokenRequest, TokenReview
from kybern.api.authorization_v1 import (
    LocalSubjectAccessReview,
    SelfSubjectAccessReview,
    SelfSubjectRulesReview,
    SubjectAccessReview,
)
from kybern.apiserver import negotiate
from kybern.apiserver.admission import Attributes
from kybern.apiserver.authenticate import reviews as authentication_reviews
from kybern.apiserver.authenticate.chain import Authenticators
from kybern.apiserver.authenticate.issue import IssuerOptions, TokenIssuer
from kybern.apiserver.authenticate.keys import parse_signing_key
from kybern.apiserver.authorize import reviews as authorization_reviews
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.handlers import body, component_statuses, forms
from kybern.apiserver.handlers.binding import bind
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.proxy import routes as proxy_routes
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError, invalid


def install(
    handlers: Handlers, options: ServerOptions, authenticators: Authenticators, authorizers: Authorizers
) -> None:
    """Add all handlers of this file."""
    pods = handlers.registry.get("", "v1", "pods")
    assert pods is not None

    def bindings(request: Request) -> Awaitable[Answer]:
        return bind(handlers, request, pods)

    handlers.virtual["bindings"] = bindings
    handlers.virtual["componentstatuses"] = lambda request: component_statuses.read(handlers, request)
    _install_tokens(handlers, options, handlers.rng)
    _install_reviews(handlers, authenticators, authorizers)
    proxy_routes.install(handlers, options, authorizers)


def _install_tokens(handlers: Handlers, options: ServerOptions, rng: random.Random) -> None:
    if not options.service_account_signing_key:
        return
    issuer = TokenIssuer(
        parse_signing_key(options.service_account_signing_key),
        IssuerOptions(
            options.service_account_issuer,
            (options.service_account_issuer,),
            options.service_account_max_token_expiration,
            options.service_account_extend_token_expiration,
        ),
        handlers.registry.objects,
        handlers.clock,
        rng,
    )

    async def token(owner: Handlers, request: Request, served: Served) -> Answer:
        accepted = negotiate.choose_plain(request.headers.get("accept", ""))
        asked = body.decode(request, TokenRequest, "authentication.k8s.io/v1", "TokenRequest")
        info = request.info
        metadata.check_namespace(served.resource, asked.metadata, info.namespace)
        if asked.metadata.name not in (None, "", info.name):
            fault = invalid("metadata.name", asked.metadata.name, "must match the service account name if specified")
            raise ApiError.invalid("authentication.k8s.io", "TokenRequest", info.name, [fault])
        asked.metadata.name = info.name
        account = served.store.entry(info.namespace, info.name).object
        _check_uid(asked, account)
        attributes = Attributes(
            "CREATE", served.resource, info.subresource, info.namespace, info.name, asked, None, request.user
        )
        waiting = owner.admit(attributes)
        if waiting is not None:
            await waiting
        admitted = attributes.object
        assert isinstance(admitted, TokenRequest)
        return _made(issuer.issue_token(account, admitted), accepted)

    handlers.extensions["serviceaccounts/token"] = token


def _check_uid(asked: TokenRequest, account: Any) -> None:
    mine = account.metadata.uid
    if asked.metadata.uid and asked.metadata.uid != mine:
        told = f"the UID in the token request ({asked.metadata.uid}) does not match the UID of the service account"
        kind = "TokenRequest.authentication.k8s.io"
        raise ApiError.conflict("", kind, account.metadata.name, f"{told} ({mine})")


def _made(obj: Any, accepted: negotiate.Accepted) -> Response:
    return Response(status=201, body=forms.encoded(codec.encode(obj), accepted), content_type=accepted.content_type)


def _of_review(request: Request, asked: Any) -> Attributes:
    """A question as admission sees it."""
    info = request.info
    assert info.resource is not None
    return Attributes(
        operation="CREATE",
        resource=info.resource,
        subresource="",
        namespace=info.namespace,
        name="",
        object=asked,
        old=None,
        user=request.user,
        dry_run=body.is_dry_run(request),
        warnings=request.warnings,
    )


def _install_reviews(handlers: Handlers, authenticators: Authenticators, authorizers: Authorizers) -> None:
    def review(kind: type[Any], group: str, fill: Any) -> Any:
        def handle(request: Request) -> Answer | Awaitable[Answer]:
            accepted = negotiate.choose_plain(request.headers.get("accept", ""))
            asked = body.decode(request, kind, f"{group}/v1", kind.__name__)
            attributes = _of_review(request, asked)
            waiting = handlers.admit(attributes)
            if waiting is not None:
                return later(request, attributes, waiting, accepted)
            return _made(fill(request, attributes.object), accepted)

        async def later(
            request: Request, attributes: Attributes, waiting: Awaitable[None], accepted: negotiate.Accepted
        ) -> Answer:
            await waiting
            return _made(fill(request, attributes.object), accepted)

        return handle

    authn, authz = "authentication.k8s.io", "authorization.k8s.io"
    for plural, kind, group, fill in (
        (
            "tokenreviews",
            TokenReview,
            authn,
            lambda _, r: authentication_reviews.review_token(r, authenticators),
        ),
        (
            "selfsubjectreviews",
            SelfSubjectReview,
            authn,
            lambda request, _: authentication_reviews.review_self(request.user, handlers.clock),
        ),
        (
            "subjectaccessreviews",
            SubjectAccessReview,
            authz,
            lambda _, r: authorization_reviews.review_subject(r, authorizers),
        ),
        (
            "localsubjectaccessreviews",
            LocalSubjectAccessReview,
            authz,
            lambda request, r: authorization_reviews.review_local(r, request.info.namespace, authorizers),
        ),
        (
            "selfsubjectaccessreviews",
            SelfSubjectAccessReview,
            authz,
            lambda request, r: authorization_reviews.review_self_access(r, request.user, authorizers),
        ),
        (
            "selfsubjectrulesreviews",
            SelfSubjectRulesReview,
            authz,
            lambda request, r: authorization_reviews.review_self_rules(r, request.user, authorizers),
        ),
    ):
        handlers.virtual[f"{plural}.{group}"] = review(kind, group, fill)
