"""Read an AuthenticationConfiguration file: whose tokens are believed, how claims become a user, who may be nobody.

Made of a file or of the --oidc-* flags by process/apiserver, used by jwt_tokens and chain. Every fault names its place.
Source: "Using Authentication Configuration" in the Kubernetes documentation.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from cryptography import x509

from kybern.apiserver.authenticate import claim_expressions
from kybern.machinery import cel, manifest

API_VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
KIND = "AuthenticationConfiguration"
MAX_ISSUERS = 64  # kube-apiserver
_KEY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[a-z0-9]([-_.a-z0-9]*[a-z0-9])?")
_RESERVED = ("k8s.io", "kubernetes.io")


class Issuer(msgspec.Struct, forbid_unknown_fields=True):
    url: str = ""
    discoveryURL: str = ""
    certificateAuthority: str = ""
    audiences: list[str] = []
    audienceMatchPolicy: str = ""
    egressSelectorType: str = ""


class ClaimRule(msgspec.Struct, forbid_unknown_fields=True):
    claim: str = ""
    requiredValue: str = ""
    expression: str = ""
    message: str = ""


class Prefixed(msgspec.Struct, forbid_unknown_fields=True):
    claim: str = ""
    prefix: str | None = None
    expression: str = ""


class Mapped(msgspec.Struct, forbid_unknown_fields=True):
    claim: str = ""
    expression: str = ""


class ExtraMapping(msgspec.Struct, forbid_unknown_fields=True):
    key: str = ""
    valueExpression: str = ""


class Mappings(msgspec.Struct, forbid_unknown_fields=True):
    username: Prefixed = msgspec.field(default_factory=Prefixed)
    groups: Prefixed = msgspec.field(default_factory=Prefixed)
    uid: Mapped = msgspec.field(default_factory=Mapped)
    extra: list[ExtraMapping] = []


class UserRule(msgspec.Struct, forbid_unknown_fields=True):
    expression: str = ""
    message: str = ""


class Jwt(msgspec.Struct, forbid_unknown_fields=True):
    """One authenticator of tokens."""

    issuer: Issuer = msgspec.field(default_factory=Issuer)
    claimValidationRules: list[ClaimRule] = []
    claimMappings: Mappings = msgspec.field(default_factory=Mappings)
    userValidationRules: list[UserRule] = []


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    path: str = ""


class Anonymous(msgspec.Struct, forbid_unknown_fields=True):
    enabled: bool = False
    conditions: list[Condition] = []


class Configuration(msgspec.Struct, forbid_unknown_fields=True):
    apiVersion: str = ""
    kind: str = ""
    jwt: list[Jwt] = []
    anonymous: Anonymous | None = None


@dataclass(frozen=True, slots=True)
class OidcFlags:
    """Flags --oidc-*: one issuer, before there was a file for many."""

    issuer_url: str = ""
    client_id: str = ""
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    ca: str = ""  # PEM
    required_claims: tuple[tuple[str, str], ...] = ()
    signing_algorithms: tuple[str, ...] = ("RS256",)


def parse(text: bytes, own_issuers: Sequence[str] = ()) -> Configuration:
    """`own_issuers` issue service account tokens: nobody else may. Raises ValueError."""
    try:
        found = msgspec.convert(manifest.parse_yaml(text), Configuration)
    except msgspec.ValidationError as error:
        raise ValueError(f"authentication configuration: {error}") from None
    if found.apiVersion not in API_VERSIONS or found.kind != KIND:
        raise ValueError(
            f"authentication configuration: expected {API_VERSIONS[0]} {KIND}, found {found.apiVersion} {found.kind}"
        )
    check(found, own_issuers)
    return found


def of_flags(flags: OidcFlags, own_issuers: Sequence[str] = ()) -> Configuration:
    """The same from flags. Raises ValueError."""
    if not flags.issuer_url:
        return Configuration()
    prefix = flags.username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and flags.username_claim != "email":
        prefix = f"{flags.issuer_url}#"
    groups = Prefixed(flags.groups_claim, flags.groups_prefix) if flags.groups_claim else Prefixed()
    one = Jwt(
        issuer=Issuer(url=flags.issuer_url, audiences=[flags.client_id], certificateAuthority=flags.ca),
        claimMappings=Mappings(Prefixed(flags.username_claim, prefix), groups),
        claimValidationRules=[ClaimRule(claim, value) for claim, value in flags.required_claims],
    )
    found = Configuration(jwt=[one])
    check(found, own_issuers)
    return found


def check(found: Configuration, own_issuers: Sequence[str]) -> None:
    if len(found.jwt) > MAX_ISSUERS:
        raise ValueError(f"authentication configuration: jwt: at most {MAX_ISSUERS} issuers, found {len(found.jwt)}")
    seen: set[str] = set()
    for number, one in enumerate(found.jwt):
        try:
            _check_issuer(one.issuer, seen, own_issuers)
            _check_rules(one)
            _check_mappings(one)
        except ValueError as error:
            raise ValueError(f"authentication configuration: jwt[{number}].{error}") from None
    anonymous = found.anonymous
    if anonymous is not None:
        if not anonymous.enabled and anonymous.conditions:
            raise ValueError("authentication configuration: anonymous.conditions: only where it is enabled")
        for condition in anonymous.conditions:
            if not condition.path.startswith("/"):
                raise ValueError(f"authentication configuration: anonymous.conditions: no path: {condition.path!r}")


def _check_issuer(issuer: Issuer, seen: set[str], own_issuers: Sequence[str]) -> None:
    _check_url(issuer.url, "issuer.url")
    if issuer.url in own_issuers:
        raise ValueError(f"issuer.url: {issuer.url} issues service account tokens")
    if issuer.discoveryURL:
        _check_url(issuer.discoveryURL, "issuer.discoveryURL")
        if issuer.discoveryURL.rstrip("/") == issuer.url.rstrip("/"):
            raise ValueError("issuer.discoveryURL: must be different from url")
    for url in filter(None, (issuer.url, issuer.discoveryURL)):
        if url in seen:
            raise ValueError(f"issuer: duplicate value: {url}")
        seen.add(url)
    if not issuer.audiences or not all(issuer.audiences):
        raise ValueError("issuer.audiences: at least one is required, and none may be empty")
    if len(set(issuer.audiences)) != len(issuer.audiences):
        raise ValueError("issuer.audiences: one is listed twice")
    if issuer.audienceMatchPolicy not in ("", "MatchAny"):
        raise ValueError(f"issuer.audienceMatchPolicy: expected MatchAny, found {issuer.audienceMatchPolicy!r}")
    if len(issuer.audiences) > 1 and not issuer.audienceMatchPolicy:
        raise ValueError("issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    if issuer.egressSelectorType:
        raise ValueError("issuer.egressSelectorType: this server has no egress selectors")
    if issuer.certificateAuthority:
        try:
            x509.load_pem_x509_certificates(issuer.certificateAuthority.encode())
        except ValueError:
            raise ValueError("issuer.certificateAuthority: holds no certificate") from None


def _check_url(url: str, where: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{where}: expected an https URL, found {url!r}")
    if parts.username or parts.query or parts.fragment:
        raise ValueError(f"{where}: must have no user, query or fragment")


def _check_rules(one: Jwt) -> None:
    seen: set[str] = set()
    for number, rule in enumerate(one.claimValidationRules):
        where = f"claimValidationRules[{number}]"
        if bool(rule.claim) == bool(rule.expression):
            raise ValueError(f"{where}: either claim or expression is required, not both")
        if rule.claim and rule.message:
            raise ValueError(f"{where}.message: only for an expression")
        if rule.expression and rule.requiredValue:
            raise ValueError(f"{where}.requiredValue: only for a claim")
        if (rule.claim or rule.expression) in seen:
            raise ValueError(f"{where}: listed twice")
        seen.add(rule.claim or rule.expression)
        if rule.expression:
            _compile(claim_expressions.compile_claims, rule.expression, f"{where}.expression", cel.BOOL)
    for number, user_rule in enumerate(one.userValidationRules):
        where = f"userValidationRules[{number}].expression"
        if not user_rule.expression:
            raise ValueError(f"{where}: required")
        if user_rule.expression in seen:
            raise ValueError(f"{where}: listed twice")
        seen.add(user_rule.expression)
        _compile(claim_expressions.compile_user, user_rule.expression, where, cel.BOOL)


def _check_mappings(one: Jwt) -> None:
    mappings = one.claimMappings
    for name, mapping in (("username", mappings.username), ("groups", mappings.groups)):
        where = f"claimMappings.{name}"
        if mapping.claim and mapping.expression:
            raise ValueError(f"{where}: either claim or expression, not both")
        if mapping.claim and mapping.prefix is None:
            raise ValueError(f"{where}.prefix: required when claim is set; it may be empty")
        if not mapping.claim and mapping.prefix is not None:
            raise ValueError(f"{where}.prefix: only for a claim")
        if mapping.expression:
            _compile(claim_expressions.compile_claims, mapping.expression, f"{where}.expression", None)
    if not mappings.username.claim and not mappings.username.expression:
        raise ValueError("claimMappings.username: claim or expression is required")
    if mappings.uid.claim and mappings.uid.expression:
        raise ValueError("claimMappings.uid: either claim or expression, not both")
    if mappings.uid.expression:
        _compile(claim_expressions.compile_claims, mappings.uid.expression, "claimMappings.uid.expression", None)
    keys: set[str] = set()
    for number, extra in enumerate(mappings.extra):
        where = f"claimMappings.extra[{number}]"
        domain = extra.key.partition("/")[0]
        if not _KEY.fullmatch(extra.key) or extra.key in keys:
            raise ValueError(f"{where}.key: expected a lower-case path with a domain, used once, found {extra.key!r}")
        if any(domain == r or domain.endswith(f".{r}") for r in _RESERVED):
            raise ValueError(f"{where}.key: {domain} is reserved for Kubernetes")
        keys.add(extra.key)
        _compile(claim_expressions.compile_claims, extra.valueExpression, f"{where}.valueExpression", None)
    _check_email(one)


def _check_email(one: Jwt) -> None:
    """An address that nobody has verified is no name."""
    mappings = one.claimMappings
    if "claims.email" not in mappings.username.expression.replace("claims.email_verified", ""):
        return
    texts = [mappings.username.expression, *(e.valueExpression for e in mappings.extra)]
    texts += [r.expression for r in one.claimValidationRules]
    if not any("claims.email_verified" in text for text in texts):
        raise ValueError(
            "claimMappings.username.expression: claims.email_verified must be used in "
            "claimMappings.username.expression or claimMappings.extra[*].valueExpression or "
            "claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"
        )


def _compile(compile: Callable[[str], cel.Program], text: str, where: str, wanted: cel.Type | None) -> None:
    if not text.strip():
        raise ValueError(f"{where}: required")
    try:
        program = compile(text)
    except cel.CelError as error:
        raise ValueError(f"{where}: compilation failed: {error}") from None
    if wanted is not None and program.type not in (wanted, cel.DYN):
        raise ValueError(f"{where}: must evaluate to {wanted}")
