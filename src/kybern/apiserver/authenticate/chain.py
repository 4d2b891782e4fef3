"""Decide who asks: the ordered ways a request may prove it.

Called by the pipeline first of all; what it returns is read by audit, flow control, authorize and admission.
Promise: credentials that are shown and wrong are 401, also where nobody would have had to show any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kybern.apiserver.authenticate import bearer
from kybern.apiserver.authenticate.bootstrap_tokens import BootstrapTokens
from kybern.apiserver.authenticate.client_certificates import Authority, InvalidCertificate
from kybern.apiserver.authenticate.front_proxy import FrontProxy
from kybern.apiserver.authenticate.keys import KeyRing, parse_public_keys
from kybern.apiserver.authenticate.service_accounts import ServiceAccountTokens
from kybern.apiserver.authenticate.static_tokens import StaticTokens
from kybern.apiserver.authenticate.verdict import InvalidToken, TokenAuthenticator, TokenUser
from kybern.apiserver.request import ANONYMOUS, Reader, Request, User
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

ANONYMOUS_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})


@dataclass(frozen=True, slots=True)
class AuthenticationOptions:
    """What the API server's flags say about who may come in. Bytes are the contents of the files."""

    client_ca: bytes = b""  # PEM
    front_proxy_ca: bytes = b""  # PEM
    front_proxy_names: tuple[str, ...] = ("front-proxy-client",)
    static_tokens: str = ""  # CSV
    service_account_keys: tuple[bytes, ...] = ()  # PEM, public or private
    issuers: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    bootstrap_tokens: bool = True
    anonymous_paths: frozenset[str] = ANONYMOUS_PATHS


class Authenticators:
    """All ways in, in order: front proxy, client certificate, bearer token, nobody."""

    def __init__(self, options: AuthenticationOptions, reader: Reader, clock: Clock) -> None:
        """Raises ValueError for a certificate, key or token file that cannot be read."""
        self.audiences = options.audiences
        self.keys = KeyRing([k for pem in options.service_account_keys for k in parse_public_keys(pem)])
        self._anonymous_paths = options.anonymous_paths
        self._clients = Authority(options.client_ca, clock) if options.client_ca else None
        self._front_proxy = None
        if options.front_proxy_ca:
            self._front_proxy = FrontProxy(Authority(options.front_proxy_ca, clock), options.front_proxy_names)
        tokens: list[TokenAuthenticator] = []
        if options.static_tokens:
            tokens.append(StaticTokens(options.static_tokens))
        if self.keys.keys:
            tokens.append(ServiceAccountTokens(self.keys, options.issuers, options.audiences, reader, clock))
        if options.bootstrap_tokens:
            tokens.append(BootstrapTokens(reader, clock))
        self._tokens: Sequence[TokenAuthenticator] = tokens

    def authenticate(self, request: Request) -> User:
        """Who asks (before impersonation). Raises unauthorized."""
        shown = bool(request.certificates)
        if shown:
            if self._front_proxy is not None:
                user = self._front_proxy.authenticate(request)
                if user is not None:
                    return user
            user = self._certificate_user(request.certificates)
            if user is not None:
                return user
        token = bearer.token_of(request)
        if token:
            try:
                return self._user_of(token)
            except InvalidToken as error:
                raise ApiError.unauthorized() from error
        if not shown and request.path in self._anonymous_paths:
            return ANONYMOUS
        raise ApiError.unauthorized()

    def _user_of(self, token: str) -> User:
        """Whose token it is, if it is good for this server. Raises InvalidToken."""
        for authenticator in self._tokens:
            found = authenticator.authenticate(token, self.audiences)
            if found is not None:
                return found.user
        raise InvalidToken("invalid bearer token")

    def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> TokenUser:
        """Whose token it is. Raises InvalidToken."""
        for authenticator in self._tokens:
            found = authenticator.authenticate(token, audiences)
            if found is None:
                continue
            good_for = found.audiences or tuple(a for a in audiences if a in self.audiences)
            if good_for or not audiences:
                return TokenUser(found.user, good_for)
        raise InvalidToken("invalid bearer token")

    def _certificate_user(self, chain: tuple[bytes, ...]) -> User | None:
        if self._clients is None:
            return None
        try:
            user = self._clients.verify(chain).user
        except InvalidCertificate:
            return None
        return user if user.name else None
