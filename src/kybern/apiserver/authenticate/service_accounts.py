"""Tokens of service accounts: signature once, life every time.

What a signature proves never changes, so it is checked once a token and remembered by the token's hash until the
token expires. Whether account, pod, secret and node still live is looked up on every request: a token dies with them.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt

from kybern.api import scalars
from kybern.api.core_v1 import Secret
from kybern.apiserver.authenticate import claims as claims_module
from kybern.apiserver.authenticate.claims import Claims, Named
from kybern.apiserver.authenticate.keys import KeyRing
from kybern.apiserver.authenticate.legacy_use import LegacyUse
from kybern.apiserver.authenticate.verdict import InvalidToken, TokenUser
from kybern.apiserver.request import Reader, User
from kybern.machinery.clock import Clock

SECRET_TYPE = "kubernetes.io/service-account-token"
_INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
_LEEWAY = (
    60.0  # seconds of clock skew, and how long after its deletion an object still counts (upstream: both a minute)
)
_CACHED = 8192


@dataclass(frozen=True, slots=True)
class _Proven:
    """What the signature of a token proves."""

    user: User
    namespace: str
    account: Named
    audiences: tuple[str, ...]
    ends: float  # Unix time
    begins: float
    pod: Named | None = None
    secret: Named | None = None
    node: Named | None = None
    legacy: bool = False


class ServiceAccountTokens:
    """Judges tokens of `issuers` (the first issues new ones) and those of legacy token Secrets."""

    def __init__(
        self,
        keys: KeyRing,
        issuers: tuple[str, ...],
        audiences: tuple[str, ...],
        reader: Reader,
        clock: Clock,
        legacy_use: LegacyUse | None = None,
    ) -> None:
        self._legacy_use = legacy_use
        self._keys = keys
        self._issuers = frozenset(issuers)
        self._audiences = audiences  # what tokens without an audience are good for
        self._reader = reader
        self._clock = clock
        self._proven: dict[bytes, _Proven] = {}

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        digest = hashlib.sha256(token.encode()).digest()
        proven = self._proven.get(digest)
        if proven is None:
            if not self._is_ours(token):
                return None
            proven = self._prove(token)
            while len(self._proven) >= _CACHED:
                del self._proven[next(iter(self._proven))]
            self._proven[digest] = proven
        now = self._clock.now().timestamp()
        if now >= proven.ends + _LEEWAY:
            self._proven.pop(digest, None)
            raise InvalidToken("service account token has expired")
        if now < proven.begins - _LEEWAY:
            raise InvalidToken("service account token is not valid yet")
        good_for = tuple(a for a in proven.audiences if a in audiences)
        if audiences and not good_for:
            raise InvalidToken(
                f"[invalid bearer token, token audiences {_quoted(proven.audiences)} is invalid for the target "
                f"audiences {_quoted(audiences)}]"
            )
        self._check_life(proven, token, now)
        return TokenUser(proven.user, good_for)

    def _is_ours(self, token: str) -> bool:
        """By its issuer, without believing anything yet."""
        if token.count(".") != 2:
            return False
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
            return False
        return isinstance(issuer, str) and (issuer in self._issuers or issuer == claims_module.LEGACY_ISSUER)

    def _prove(self, token: str) -> _Proven:
        claims = claims_module.parse(self._keys.open(token))
        return self._prove_legacy(claims) if claims.iss == claims_module.LEGACY_ISSUER else self._prove_bound(claims)

    def _prove_bound(self, claims: Claims) -> _Proven:
        bound = claims.bound
        if bound is None or claims.iss not in self._issuers:
            raise InvalidToken("not a service account token")
        account = bound.serviceaccount
        if claims.sub != claims_module.user_name(bound.namespace, account.name):
            raise InvalidToken("the subject is not the service account of the claims")
        if claims.exp is None:
            raise InvalidToken("a service account token needs an expiration")
        return _Proven(
            claims_module.user_of(bound.namespace, account, claims.jti, bound.pod, bound.node),
            bound.namespace,
            account,
            claims.audiences or self._audiences,
            claims.exp,
            max(claims.nbf or 0.0, claims.iat or 0.0),
            bound.pod,
            bound.secret,
            bound.node,
        )

    def _prove_legacy(self, claims: Claims) -> _Proven:
        namespace = claims.legacy_namespace
        account = Named(claims.legacy_name, claims.legacy_uid)
        if not (namespace and account.name and claims.legacy_secret):
            raise InvalidToken("a legacy token must name namespace, secret and service account")
        if claims.sub != claims_module.user_name(namespace, account.name):
            raise InvalidToken("the subject is not the service account of the claims")
        user = claims_module.user_of(namespace, account)
        secret = Named(claims.legacy_secret)
        return _Proven(
            user, namespace, account, self._audiences, claims.exp or float("inf"), 0.0, secret=secret, legacy=True
        )

    def _check_life(self, proven: _Proven, token: str, now: float) -> None:
        """Raises InvalidToken when something the token depends on is gone."""
        if proven.secret is not None:
            secret = self._living("secrets", proven.namespace, proven.secret, now)
            if proven.legacy:
                _check_legacy_secret(secret, token)
                if self._legacy_use is not None:
                    self._legacy_use.note(secret)
        if proven.pod is not None:
            self._living("pods", proven.namespace, proven.pod, now)
        elif proven.node is not None:  # a pod's token names its node for information only
            self._living("nodes", "", proven.node, now)
        self._living("serviceaccounts", proven.namespace, proven.account, now)

    def _living(self, resource: str, namespace: str, named: Named, now: float) -> Any:
        obj = self._reader.get(resource, namespace, named.name)
        if obj is None:
            raise InvalidToken(f"service account token has been invalidated: no {resource} {namespace}/{named.name}")
        meta = obj.metadata
        if named.uid and meta.uid != named.uid:
            raise InvalidToken(f"service account token has been invalidated: {resource} {named.name} was made anew")
        if meta.deletionTimestamp and _seconds(meta.deletionTimestamp) < now - _LEEWAY:
            raise InvalidToken(f"service account token has been invalidated: {resource} {named.name} is deleted")
        return obj


def _check_legacy_secret(secret: Secret, token: str) -> None:
    if secret.type != SECRET_TYPE or not hmac.compare_digest(secret.data.get("token", b""), token.encode()):
        raise InvalidToken("service account token has been invalidated: the secret holds another token")
    if _INVALID_SINCE in secret.metadata.labels:
        raise InvalidToken("service account token has been invalidated: unused for too long")


def _seconds(text: str) -> float:
    moment: datetime.datetime = scalars.parse_time(text)
    return moment.timestamp()


def _quoted(names: Iterable[str]) -> str:
    """As Go prints a list of strings."""
    return "[" + " ".join(f'"{name}"' for name in names) + "]"
