"""Read an AuthorizationConfiguration file: which authorizers decide, in which order. Pure but for reading kubeconfigs.

Made of a file or of the --authorization-* flags by process/apiserver, used by chain. Every fault names its place.
Source: "Using Configuration File for Authorization" in the Kubernetes documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.apiserver.authorize.webhook import CONDITIONS, WebhookOptions
from kybern.client import kubeconfig
from kybern.client.kubeconfig import Access
from kybern.machinery import cel, manifest

API_VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
KIND = "AuthorizationConfiguration"
TYPES = ("Node", "RBAC", "Webhook", "AlwaysAllow", "AlwaysDeny")
MAX_CONDITIONS = 64
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    expression: str = ""


class Connection(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    kubeConfigFile: str | None = None


class Webhook(msgspec.Struct, forbid_unknown_fields=True):
    authorizedTTL: str = "5m0s"
    cacheAuthorizedRequests: bool = True
    unauthorizedTTL: str = "30s"
    cacheUnauthorizedRequests: bool = True
    timeout: str = ""
    subjectAccessReviewVersion: str = ""
    matchConditionSubjectAccessReviewVersion: str = ""
    failurePolicy: str = ""
    connectionInfo: Connection = msgspec.field(default_factory=Connection)
    matchConditions: list[Condition] = []


class Authorizer(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    name: str = ""
    webhook: Webhook | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    apiVersion: str = ""
    kind: str = ""
    authorizers: list[Authorizer] = []


@dataclass(frozen=True, slots=True)
class Entry:
    """One authorizer, in its turn."""

    type: str
    name: str
    webhook: WebhookOptions | None = None


DEFAULT = (Entry("Node", "node"), Entry("RBAC", "rbac"))
Load = Callable[[str], Access]


def parse(text: bytes, load: Load = kubeconfig.load) -> tuple[Entry, ...]:
    """Raises ValueError, OSError."""
    try:
        found = msgspec.convert(manifest.parse_yaml(text), _File)
    except msgspec.ValidationError as error:
        raise ValueError(f"authorization configuration: {error}") from None
    if found.apiVersion not in API_VERSIONS or found.kind != KIND:
        raise ValueError(
            f"authorization configuration: expected {API_VERSIONS[0]} {KIND}, found {found.apiVersion} {found.kind}"
        )
    if not found.authorizers:
        raise ValueError("authorization configuration: authorizers: at least one is required")
    entries: list[Entry] = []
    for number, one in enumerate(found.authorizers):
        try:
            entry = _entry(one, load)
            if any(e.name == entry.name for e in entries):
                raise ValueError(f"name: {entry.name} is used twice")
            if entry.type != "Webhook" and any(e.type == entry.type for e in entries):
                raise ValueError(f"type: {entry.type} is listed twice")
        except ValueError as error:
            raise ValueError(f"authorization configuration: authorizers[{number}].{error}") from None
        entries.append(entry)
    return tuple(entries)


def of_modes(modes: tuple[str, ...], webhook: WebhookOptions | None) -> tuple[Entry, ...]:
    """The same of --authorization-mode. Raises ValueError."""
    entries = []
    for mode in modes:
        if mode not in TYPES:
            raise ValueError(f"--authorization-mode: expected some of {', '.join(TYPES)}, found {mode}")
        if mode == "Webhook" and webhook is None:
            raise ValueError("--authorization-mode=Webhook needs --authorization-webhook-config-file")
        entries.append(Entry(mode, mode.lower(), webhook if mode == "Webhook" else None))
    if not entries or len(set(modes)) != len(modes):
        raise ValueError("--authorization-mode: at least one mode, and none twice")
    return tuple(entries)


def _entry(one: Authorizer, load: Load) -> Entry:
    if one.type not in TYPES:
        raise ValueError(f"type: expected one of {', '.join(TYPES)}, found {one.type!r}")
    if not _NAME.fullmatch(one.name):
        raise ValueError(f"name: expected a DNS name, found {one.name!r}")
    if (one.webhook is not None) != (one.type == "Webhook"):
        raise ValueError("webhook: required for type Webhook, and only there")
    return Entry(one.type, one.name, _webhook(one.name, one.webhook, load) if one.webhook is not None else None)


def _webhook(name: str, one: Webhook, load: Load) -> WebhookOptions:
    timeout = _seconds(one.timeout, "webhook.timeout")
    if not 0 < timeout <= 30:
        raise ValueError("webhook.timeout: expected more than 0s and at most 30s")
    if one.subjectAccessReviewVersion not in ("v1", "v1beta1"):
        raise ValueError("webhook.subjectAccessReviewVersion: expected v1 or v1beta1")
    if one.failurePolicy not in ("Deny", "NoOpinion"):
        raise ValueError("webhook.failurePolicy: expected Deny or NoOpinion")
    if one.matchConditions and one.matchConditionSubjectAccessReviewVersion != "v1":
        raise ValueError("webhook.matchConditionSubjectAccessReviewVersion: expected v1, as there are matchConditions")
    return WebhookOptions(
        name,
        _access(one.connectionInfo, load),
        _seconds(one.authorizedTTL, "webhook.authorizedTTL") if one.cacheAuthorizedRequests else 0.0,
        _seconds(one.unauthorizedTTL, "webhook.unauthorizedTTL") if one.cacheUnauthorizedRequests else 0.0,
        timeout,
        one.subjectAccessReviewVersion,
        one.failurePolicy == "Deny",
        _conditions(one.matchConditions),
    )


def _access(connection: Connection, load: Load) -> Access:
    if connection.type == "InClusterConfig":
        if connection.kubeConfigFile is not None:
            raise ValueError("webhook.connectionInfo.kubeConfigFile: only for type KubeConfigFile")
        return kubeconfig.in_cluster()
    if connection.type != "KubeConfigFile" or not connection.kubeConfigFile:
        raise ValueError(
            "webhook.connectionInfo: expected type KubeConfigFile with a kubeConfigFile, or InClusterConfig"
        )
    return load(connection.kubeConfigFile)


def _conditions(conditions: list[Condition]) -> tuple[str, ...]:
    if len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"webhook.matchConditions: at most {MAX_CONDITIONS}, found {len(conditions)}")
    for number, condition in enumerate(conditions):
        where = f"webhook.matchConditions[{number}].expression"
        if not condition.expression.strip():
            raise ValueError(f"{where}: required")
        try:
            program = cel.compile(condition.expression, CONDITIONS)
        except cel.CelError as error:
            raise ValueError(f"{where}: compilation failed: {error}") from None
        if program.type not in (cel.BOOL, cel.DYN):
            raise ValueError(f"{where}: must evaluate to bool")
    return tuple(c.expression for c in conditions)


def _seconds(text: str, where: str) -> float:
    """`1m30s`. Raises ValueError."""
    parts: list[tuple[Any, ...]] = _DURATION.findall(text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
        raise ValueError(f"{where}: expected a duration like 30s, found {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
