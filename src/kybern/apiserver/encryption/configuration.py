"""Read an EncryptionConfiguration file: YAML to Rules, with faults that name the place. Pure but for the keys' entropy.

Called at start by process/apiserver and by reload. Secrets never appear in a message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kybern.apiserver.encryption.rules import Providers, Rule, Rules
from kybern.apiserver.encryption.transformers import AesCbc, AesGcm, Identity, Secretbox, Transformer
from kybern.machinery import manifest

API_VERSIONS = ("apiserver.config.k8s.io/v1",)
KIND = "EncryptionConfiguration"
_AES_SIZES = (16, 24, 32)


class Key(msgspec.Struct, forbid_unknown_fields=True):
    """A named secret, in base64."""

    name: str = ""
    secret: str = ""


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = []


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Provider(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of these."""

    aesgcm: Keys | None = None
    aescbc: Keys | None = None
    secretbox: Keys | None = None
    identity: Nothing | None = None
    kms: Any = None


class Resources(msgspec.Struct, forbid_unknown_fields=True):
    resources: list[str] = []
    providers: list[Provider] = []


class Configuration(msgspec.Struct, forbid_unknown_fields=True):
    apiVersion: str = ""
    kind: str = ""
    resources: list[Resources] = []


# Cipher -> (its transformer, the sizes a key of it may have)
_CIPHERS: Mapping[str, tuple[Callable[[str, bytes], Transformer], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, _AES_SIZES),
    "aescbc": (AesCbc, _AES_SIZES),
    "secretbox": (Secretbox, (32,)),
}


def parse(text: bytes) -> Rules:
    """Raises ValueError."""
    try:
        found = msgspec.convert(manifest.parse_yaml(text), Configuration)
    except msgspec.ValidationError as error:
        raise ValueError(f"encryption configuration: {error}") from None
    if found.apiVersion not in API_VERSIONS or found.kind != KIND:
        raise ValueError(
            f"encryption configuration: expected {API_VERSIONS[0]} {KIND}, found {found.apiVersion} {found.kind}"
        )
    if not found.resources:
        raise ValueError("encryption configuration: resources: at least one entry is required")
    _check_overlaps(found.resources)
    return Rules([_rule(entry, f"resources[{number}]") for number, entry in enumerate(found.resources)])


def _check_overlaps(entries: list[Resources]) -> None:
    """A wildcard hides what comes after it; the same resource twice is a mistake."""
    seen: set[str] = set()
    for entry in entries:
        for resource in entry.resources:
            if not resource or resource == "*" or resource.count("*") > 1 + (resource == "*.*"):
                raise ValueError(
                    f"encryption configuration: {resource!r} is no resource: write `plural.group` or `*.group`"
                )
            _, _, group = resource.partition(".")
            hidden_by = {resource, f"*.{group}", "*.*"} & seen
            if hidden_by:
                raise ValueError(
                    f"encryption configuration: {resource} never takes effect, {sorted(hidden_by)[0]} comes before it"
                )
        seen.update(entry.resources)


def _rule(entry: Resources, where: str) -> Rule:
    if not entry.resources:
        raise ValueError(f"encryption configuration: {where}.resources: at least one resource is required")
    if not entry.providers:
        raise ValueError(f"encryption configuration: {where}.providers: at least one provider is required")
    transformers: list[Transformer] = []
    for number, provider in enumerate(entry.providers):
        transformers += _transformers(provider, f"{where}.providers[{number}]")
    return Rule(tuple(entry.resources), Providers(tuple(transformers)))


def _transformers(provider: Provider, where: str) -> list[Transformer]:
    given = [name for name in provider.__struct_fields__ if getattr(provider, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"encryption configuration: {where}: exactly one provider is required, found {given or 'none'}"
        )
    if provider.kms is not None:
        raise ValueError(f"encryption configuration: {where}.kms: KMS plugins are not supported by this server")
    if provider.identity is not None:
        return [Identity()]
    name = given[0]
    make, sizes = _CIPHERS[name]
    keys: list[Key] = getattr(provider, name).keys
    if not keys:
        raise ValueError(f"encryption configuration: {where}.{name}.keys: at least one key is required")
    names = [key.name for key in keys]
    if len(set(names)) != len(names):
        raise ValueError(f"encryption configuration: {where}.{name}.keys: a key's name is used twice")
    return [make(key.name, _secret(key, sizes, f"{where}.{name}.keys[{n}]")) for n, key in enumerate(keys)]


def _secret(key: Key, sizes: tuple[int, ...], where: str) -> bytes:
    if not key.name or ":" in key.name:
        raise ValueError(f"encryption configuration: {where}.name: a name without colons is required")
    try:
        secret = base64.b64decode(key.secret, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"encryption configuration: {where}.secret: not base64") from None
    if len(secret) not in sizes:
        expected = ", ".join(map(str, sizes))
        raise ValueError(
            f"encryption configuration: {where}.secret: expected a key of {expected} bytes, found {len(secret)}"
        )
    return secret
