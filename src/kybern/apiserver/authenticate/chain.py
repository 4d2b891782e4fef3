"""Decide who asks: the ordered ways a request may prove it.

Called by the pipeline first of all; what it returns is read by audit, flow control, authorize and admission.
Promise: credentials that are shown and wrong are 401, also where nobody would have had to show any.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from kybern.apiserver.authenticate import bearer, jwt_tokens
from kybern.apiserver.authenticate.bootstrap_tokens import BootstrapTokens
from kybern.apiserver.authenticate.client_certificates import Authority, InvalidCertificate
from kybern.apiserver.authenticate.configuration import Configuration
from kybern.apiserver.authenticate.front_proxy import FrontProxy
from kybern.apiserver.authenticate.jwt_tokens import JwtTokens
from kybern.apiserver.authenticate.keys import KeyRing, parse_public_keys
from kybern.apiserver.authenticate.legacy_use import LegacyUse
from kybern.apiserver.authenticate.service_accounts import ServiceAccountTokens
from kybern.apiserver.authenticate.static_tokens import StaticTokens
from kybern.apiserver.authenticate.verdict import InvalidToken, TokenAuthenticator, TokenUser
from kybern.apiserver.authenticate.webhook_tokens import WebhookTokenOptions, WebhookTokens
from kybern.apiserver.request import ANONYMOUS, Reader, Request, User
from kybern.apiserver.webhooks.client import WebhookClient
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
    configuration: Configuration = field(default_factory=Configuration)
    jwt_algorithms: tuple[str, ...] = jwt_tokens.ALGORITHMS
    token_webhook: WebhookTokenOptions | None = None


class Authenticators:
    """All ways in, in order: front proxy, client certificate, bearer token, nobody."""

    def __init__(
        self, options: AuthenticationOptions, reader: Reader, clock: Clock, webhooks: WebhookClient | None = None
    ) -> None:
        """Raises ValueError for a certificate, key or token file that cannot be read."""
        self._options = options
        self._clock = clock
        self._webhooks = webhooks or WebhookClient(reader)
        self.audiences = options.audiences
        self.keys = KeyRing([k for pem in options.service_account_keys for k in parse_public_keys(pem)])
        self._clients = Authority(options.client_ca, clock) if options.client_ca else None
        self._front_proxy = None
        if options.front_proxy_ca:
            self._front_proxy = FrontProxy(Authority(options.front_proxy_ca, clock), options.front_proxy_names)
        self.legacy_use = LegacyUse(clock)
        tokens: list[TokenAuthenticator] = []
        if options.static_tokens:
            tokens.append(StaticTokens(options.static_tokens))
        if self.keys.keys:
            tokens.append(
                ServiceAccountTokens(self.keys, options.issuers, options.audiences, reader, clock, self.legacy_use)
            )
        if options.bootstrap_tokens:
            tokens.append(BootstrapTokens(reader, clock))
        self._local: tuple[TokenAuthenticator, ...] = tuple(tokens)
        self._asked: tuple[TokenAuthenticator, ...] = ()
        if options.token_webhook is not None:
            self._asked = (WebhookTokens(options.token_webhook, self._webhooks, clock),)
        self._jwt: dict[bytes, JwtTokens] = {}
        self._tokens: tuple[TokenAuthenticator, ...] = ()
        self._anonymous_paths: frozenset[str] = frozenset()
        self._is_open = False  # anonymous requests are let in on every path: authorization decides
        self.configure(options.configuration)

    def configure(self, configuration: Configuration) -> None:
        """Take another configuration, now. Issuers that stay the same keep their keys."""
        known, self._jwt = self._jwt, {}
        for one in configuration.jwt:
            key = msgspec.json.encode(one)
            self._jwt[key] = known.get(key) or JwtTokens(one, self._webhooks, self._clock, self._options.jwt_algorithms)
        self._tokens = (*self._local, *self._jwt.values(), *self._asked)
        anonymous = configuration.anonymous
        self._anonymous_paths = self._options.anonymous_paths
        self._is_open = False
        if anonymous is not None:
            self._anonymous_paths = frozenset(c.path for c in anonymous.conditions)
            self._is_open = anonymous.enabled and not anonymous.conditions

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
        if (request.path in self._anonymous_paths and not shown) or self._is_open:
            return ANONYMOUS
        raise ApiError.unauthorized()

    def _user_of(self, token: str) -> User:
        """Whose token it is, if it is good for this server. Raises InvalidToken."""
        return self._first(token, self.audiences).user

    def _first(self, token: str, audiences: tuple[str, ...]) -> TokenUser:
        """The first authenticator that knows the token; one that refuses it does not stop the others."""
        refusal: InvalidToken | None = None
        for authenticator in self._tokens:
            try:
                found = authenticator.authenticate(token, audiences)
            except InvalidToken as error:
                refusal = refusal or error
                continue
            if found is not None:
                return found
        raise refusal or InvalidToken("invalid bearer token")

    def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> TokenUser:
        """Whose token it is. Raises InvalidToken."""
        found = self._first(token, audiences)
        good_for = found.audiences or tuple(a for a in audiences if a in self.audiences)
        if audiences and not good_for:
            raise InvalidToken("invalid bearer token")
        return TokenUser(found.user, good_for)

    def _certificate_user(self, chain: tuple[bytes, ...]) -> User | None:
        if self._clients is None:
            return None
        try:
            user = self._clients.verify(chain).user
        except InvalidCertificate:
            return None
        return user if user.name else None
