"""Tokens of OpenID Connect issuers: signature, time and audience; then rules and mappings make a user of the claims.

One of chain's token authenticators. Keys are fetched from the issuer when a token names one that is not known
(`Pending`), at most once in a while whatever tokens come. Promises: the algorithm must fit the key and is never
symmetric; the issuer of a token, of its keys and of the configuration are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt
import msgspec

from kybern.apiserver import pending
from kybern.apiserver.authenticate import claim_expressions
from kybern.apiserver.authenticate.claims import CREDENTIAL_ID
from kybern.apiserver.authenticate.configuration import Jwt, Prefixed
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, InvalidToken, TokenUser, with_group
from kybern.apiserver.request import User
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.client.kubeconfig import Access, Pem
from kybern.machinery import cel
from kybern.machinery.clock import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
# Of each key type (and curve) only these may be asked for by a token.
_BY_KEY = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
}
_JWS = jwt.PyJWS(algorithms=list(ALGORITHMS))
_NOT_BEFORE_LEEWAY = 300.0  # seconds that clocks may differ
_FETCH_TIMEOUT = 10.0
_FETCH_PAUSE = 10.0  # seconds between two looks at an issuer's keys
_FETCH_LIMIT = 1 << 20  # bytes of a key set
_MAX_KEYS = 256
_MAX_TOKEN = 64 * 1024


class _JsonWebKey(msgspec.Struct):
    kty: str = ""
    kid: str = ""
    alg: str = ""
    use: str = ""
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _KeySet(msgspec.Struct):
    keys: list[_JsonWebKey] = []


class _Discovery(msgspec.Struct):
    issuer: str = ""
    jwks_uri: str = ""


class IssuerKeys:
    """The keys an issuer publishes now."""

    def __init__(self, url: str, discovery_url: str, ca: str, webhooks: WebhookClient, clock: Clock) -> None:
        self._url = url
        self._discovery_url = discovery_url or f"{url.rstrip('/')}/.well-known/openid-configuration"
        self._access = Access(url, ca=Pem(data=ca.encode()))
        self._webhooks = webhooks
        self._clock = clock
        self._keys: tuple[tuple[str, tuple[str, ...], Any], ...] = ()  # (kid, algorithms, key)
        self._fetched = float("-inf")
        self._flaw = ""

    def find(self, kid: str, algorithm: str) -> list[Any]:
        """The keys that may have signed such a token. Raises Pending, and InvalidToken when they cannot be had."""
        found = self._fitting(kid, algorithm)
        if not found and self._clock.monotonic() - self._fetched >= _FETCH_PAUSE:
            pending.answer(("keys of", self._url), self._fetch)
            found = self._fitting(kid, algorithm)
        if not found:
            raise InvalidToken(f"issuer {self._url}: {self._flaw or 'no key fits the token'}")
        return found

    def _fitting(self, kid: str, algorithm: str) -> list[Any]:
        return [key for known, algorithms, key in self._keys if algorithm in algorithms and known in (kid, "")]

    async def _fetch(self) -> None:
        self._fetched = self._clock.monotonic()
        try:
            document = await self._webhooks.get(self._discovery_url, self._access, _FETCH_TIMEOUT, limit=_FETCH_LIMIT)
            found = msgspec.json.decode(document, type=_Discovery)
            if found.issuer != self._url:
                raise ValueError(f"its discovery document is of issuer {found.issuer!r}")
            if not found.jwks_uri.startswith("https://"):
                raise ValueError("its jwks_uri is no https URL")
            keys = await self._webhooks.get(found.jwks_uri, self._access, _FETCH_TIMEOUT, limit=_FETCH_LIMIT)
            self._keys = parse_keys(keys)
            self._flaw = ""
        except (CallFailed, ValueError, RecursionError) as error:
            self._flaw = f"its keys cannot be fetched: {error}"


def parse_keys(text: bytes) -> tuple[tuple[str, tuple[str, ...], Any], ...]:
    """(kid, algorithms, key) of each public key for signatures; others are passed over. Raises ValueError."""
    found = []
    for key in msgspec.json.decode(text, type=_KeySet).keys[:_MAX_KEYS]:
        algorithms = _BY_KEY.get((key.kty, key.crv if key.kty == "EC" else ""), ())
        algorithms = tuple(a for a in algorithms if key.alg in ("", a))
        if not algorithms or key.use not in ("", "sig"):
            continue
        try:
            fields = {f: getattr(key, f) for f in key.__struct_fields__ if getattr(key, f)}
            found.append((key.kid, algorithms, jwt.PyJWK(fields, algorithm=algorithms[0]).key))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # a kind of key that others understand
    return tuple(found)


class JwtTokens:
    """One issuer's tokens."""

    def __init__(
        self, config: Jwt, webhooks: WebhookClient, clock: Clock, algorithms: tuple[str, ...] = ALGORITHMS
    ) -> None:
        issuer = config.issuer
        self.url = issuer.url
        self._audiences = tuple(issuer.audiences)
        self._config = config
        self._clock = clock
        self._algorithms = algorithms
        self._keys = IssuerKeys(issuer.url, issuer.discoveryURL, issuer.certificateAuthority, webhooks, clock)
        mappings = config.claimMappings
        self._extra = [(e.key, claim_expressions.compile_claims(e.valueExpression)) for e in mappings.extra]
        self._claim_rules = [
            (r, claim_expressions.compile_claims(r.expression) if r.expression else None)
            for r in config.claimValidationRules
        ]
        self._user_rules = [(r, claim_expressions.compile_user(r.expression)) for r in config.userValidationRules]

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        if token.count(".") != 2 or len(token) > _MAX_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
            told = jwt.decode(token, options={"verify_signature": False})
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
            return None
        if told.get("iss") != self.url:
            return None
        claims = self._verified(token, header)
        budget = cel.Budget()
        self._check_claims(claims, budget)
        user = self._user_of(claims, budget)
        self._check_user(user, budget)
        return TokenUser(user)

    def _verified(self, token: str, header: Mapping[str, Any]) -> dict[str, Any]:
        """The claims, proven: signature, times, audience. Raises InvalidToken."""
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in self._algorithms or not isinstance(kid, str):
            raise InvalidToken(f"issuer {self.url}: tokens may not be signed by {algorithm!r}")
        for key in self._keys.find(kid, algorithm):
            try:
                payload = _JWS.decode_complete(token, key, algorithms=[algorithm])["payload"]
                claims = msgspec.json.decode(payload)
                break
            except jwt.InvalidTokenError:
                continue
            except (ValueError, RecursionError) as error:
                raise InvalidToken(f"unreadable claims: {error}") from None
        else:
            raise InvalidToken(f"issuer {self.url}: the signature does not fit")
        if not isinstance(claims, dict) or claims.get("iss") != self.url:
            raise InvalidToken("the claims are not of this issuer")
        now = self._clock.now().timestamp()
        if now > _time(claims, "exp", 0.0):
            raise InvalidToken("the token has expired")
        if now + _NOT_BEFORE_LEEWAY < _time(claims, "nbf", 0.0):
            raise InvalidToken("the token is not valid yet")
        audience = claims.get("aud")
        told = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if not any(a in self._audiences for a in told if isinstance(a, str)):
            raise InvalidToken(f"expected audience in {list(self._audiences)} got {told}")
        return claims

    def _check_claims(self, claims: dict[str, Any], budget: cel.Budget) -> None:
        for rule, program in self._claim_rules:
            if program is not None:
                if _evaluate(program, {"claims": claims}, budget) is not True:
                    raise InvalidToken(f"validation expression failed: {rule.message or rule.expression}")
            elif claims.get(rule.claim) != rule.requiredValue or rule.claim not in claims:
                raise InvalidToken(f"required claim {rule.claim} is missing or has another value")

    def _user_of(self, claims: dict[str, Any], budget: cel.Budget) -> User:
        mappings = self._config.claimMappings
        name = self._name_of(claims, budget)
        if not name:
            raise InvalidToken("the username of the token is empty")
        groups = _strings(self._mapped(mappings.groups, claims, budget), "groups")
        if mappings.groups.claim:
            groups = [f"{mappings.groups.prefix or ''}{g}" for g in groups]
        uid: Any = ""
        if mappings.uid.expression:
            uid = _evaluate(claim_expressions.compile_claims(mappings.uid.expression), {"claims": claims}, budget)
        elif mappings.uid.claim:
            uid = claims.get(mappings.uid.claim)
        if not isinstance(uid, str):
            raise InvalidToken("the uid of the token is no string")
        extra: dict[str, tuple[str, ...]] = {}
        for key, program in self._extra:
            values = _strings(_evaluate(program, {"claims": claims}, budget), f"extra {key}")
            if values:
                extra[key] = tuple(values)
        jti = claims.get("jti")
        if isinstance(jti, str) and jti:
            extra[CREDENTIAL_ID] = (f"JTI={jti}",)
        return User(name, uid, with_group(tuple(groups), AUTHENTICATED), extra)

    def _name_of(self, claims: dict[str, Any], budget: cel.Budget) -> str:
        mapping = self._config.claimMappings.username
        name = self._mapped(mapping, claims, budget)
        if not isinstance(name, str):
            raise InvalidToken("the username of the token is no string")
        if mapping.claim == "email" and claims.get("email_verified", True) is not True:
            raise InvalidToken("the email of the token is not verified")
        return f"{mapping.prefix or ''}{name}" if mapping.claim and name else name

    def _mapped(self, mapping: Prefixed, claims: dict[str, Any], budget: cel.Budget) -> Any:
        if mapping.expression:
            return _evaluate(claim_expressions.compile_claims(mapping.expression), {"claims": claims}, budget)
        return claims.get(mapping.claim) if mapping.claim else None

    def _check_user(self, user: User, budget: cel.Budget) -> None:
        if not self._user_rules:
            return
        # Rules see the user as the token makes it: the group of all who are known is added by the server.
        groups = [g for g in user.groups if g != AUTHENTICATED]
        extra = {k: list(v) for k, v in user.extra.items()}
        shown = {"username": user.name, "uid": user.uid, "groups": groups, "extra": extra}
        for rule, program in self._user_rules:
            if _evaluate(program, {"user": shown}, budget) is not True:
                raise InvalidToken(f"error evaluating user validation rule: {rule.message or rule.expression}")


def _evaluate(program: cel.Program, bindings: Mapping[str, Any], budget: cel.Budget) -> Any:
    try:
        return program.evaluate(bindings, budget)
    except (cel.EvaluationError, cel.CostExceeded) as error:
        raise InvalidToken(f"expression {program.text!r}: {error}") from None


def _strings(value: Any, what: str) -> list[str]:
    """A string, a list of them, or nothing. Raises InvalidToken."""
    if value is None or value in ("", []):
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise InvalidToken(f"{what} of the token must be a string or a list of strings")
    return [v for v in values if v]


def _time(claims: dict[str, Any], name: str, default: float) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"claim {name} is no time")
    return float(value) if abs(value) < 1 << 53 else float("inf") * (1 if value > 0 else -1)
