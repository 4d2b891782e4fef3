"""Who may ask the kubelet what: client certificates and tokens in, SubjectAccessReviews out.

Used by application before every route but health. The API server decides; answers are kept as long as upstream's
kubelet keeps them. Without the API server nothing new is allowed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from kybern.api.authentication_v1 import TokenReview, TokenReviewSpec
from kybern.api.authorization_v1 import (
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from kybern.client.rest import RestClient
from kybern.kubelet.server.contract import Ask, Caller
from kybern.machinery.clock import Clock

_TOKEN_TTL = 120.0  # kubelet: authentication.webhook.cacheTTL
_ALLOWED_TTL = 300.0  # kubelet: authorization.webhook.cacheAuthorizedTTL
_DENIED_TTL = 30.0  # kubelet: authorization.webhook.cacheUnauthorizedTTL
_MAX_KEPT = 4096

AUTHENTICATED = "system:authenticated"

V = TypeVar("V")


def caller_of(certificate: bytes) -> Caller | None:
    """The user a verified client certificate (DER) names: CN and every O. None without a CN."""
    subject = x509.load_der_x509_certificate(certificate).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        return None
    groups = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return Caller(str(names[0].value), groups=(*groups, AUTHENTICATED))


def ask_of(method: str, path: str) -> Ask:
    """What a request to the kubelet's API is in terms of RBAC. Source: "Kubelet authentication/authorization" docs."""
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, "get")
    first = path.split("/")[1].lower() if path.startswith("/") else ""
    match first:
        case "stats" | "metrics":
            return Ask(verb, (first,))
        case "logs":
            return Ask(verb, ("log",))
        case "checkpoint":
            return Ask(verb, ("checkpoint",))
        case "pods" | "runningpods":
            return Ask(verb, ("pods", "proxy"))
        case "configz" | "healthz":
            return Ask(verb, (first, "proxy"))
        case _:
            return Ask(verb, ("proxy",))


class _Kept(Generic[V]):
    """Answers with an end. Bounded; the oldest go first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        found = self._kept.get(key)
        if found is None or found[0] < self._clock.monotonic():
            return None
        return found[1]

    def put(self, key: str, value: V, ttl: float) -> None:
        self._kept[key] = (self._clock.monotonic() + ttl, value)
        self._kept.move_to_end(key)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)


class DelegatedAccess:
    """`contract.Access` by reviews of the API server."""

    def __init__(self, client: RestClient, node_name: str, clock: Clock) -> None:
        self._client = client
        self._node = node_name
        self._callers: _Kept[Caller] = _Kept(clock)
        self._verdicts: _Kept[bool] = _Kept(clock)

    async def authenticate_token(self, token: str) -> Caller | None:
        """Raises ApiError when the API server cannot be asked."""
        key = hashlib.sha256(token.encode()).hexdigest()
        known = self._callers.get(key)
        if known is not None:
            return known
        review = await self._client.create(TokenReview(spec=TokenReviewSpec(token=token)))
        user = review.status.user
        if not review.status.authenticated or user is None:
            return None
        caller = Caller(
            user.username or "",
            user.uid or "",
            (*user.groups, *(() if AUTHENTICATED in user.groups else (AUTHENTICATED,))),
            {name: tuple(values) for name, values in user.extra.items()},
        )
        self._callers.put(key, caller, _TOKEN_TTL)
        return caller

    async def is_allowed(self, caller: Caller, ask: Ask) -> bool:
        for subresource in ask.subresources:
            if await self._is_allowed(caller, ask.verb, subresource):
                return True
        return False

    async def _is_allowed(self, caller: Caller, verb: str, subresource: str) -> bool:
        key = repr((caller, verb, subresource))
        known = self._verdicts.get(key)
        if known is not None:
            return known
        spec = SubjectAccessReviewSpec(
            user=caller.name,
            uid=caller.uid or None,
            groups=list(caller.groups),
            extra={name: list(values) for name, values in caller.extra.items()},
            resourceAttributes=ResourceAttributes(
                verb=verb, version="v1", resource="nodes", subresource=subresource, name=self._node
            ),
        )
        review = await self._client.create(SubjectAccessReview(spec=spec))
        allowed = bool(review.status.allowed)
        self._verdicts.put(key, allowed, _ALLOWED_TTL if allowed else _DENIED_TTL)
        return allowed
