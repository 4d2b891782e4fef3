"""Which keys a stored value is written and read with, by the resource it belongs to. Pure.

Made by configuration, asked by store with the first part of a key. The first rule that names a resource counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kybern.apiserver.encryption.transformers import ENCRYPTED, CannotDecrypt, Identity, Transformer
from kybern.apiserver.registry import keys
from kybern.machinery import scheme

_BUILT_IN = {keys.prefix_of(r): (r.group, r.plural) for r in scheme.RESOURCES}
# Events of both groups are one resource, stored as that of the core group.
_BUILT_IN[f"{keys.ROOT}events/"] = ("", "events")


def resource_of(prefix: str) -> tuple[str, str]:
    """(group, plural) of the keys under `/registry/secrets/` or `/registry/<group>/<plural>/`."""
    found = _BUILT_IN.get(prefix)
    if found is not None:
        return found
    group, _, plural = prefix[len(keys.ROOT) : -1].rpartition("/")
    return group, plural


@dataclass(frozen=True, slots=True)
class Providers:
    """Keys in their order: the first writes, all read."""

    transformers: tuple[Transformer, ...]

    @property
    def writer(self) -> Transformer:
        return self.transformers[0]

    def encrypt(self, value: bytes, key: str) -> bytes:
        return self.transformers[0].encrypt(value, key)

    def decrypt(self, value: bytes, key: str) -> bytes:
        """Raises CannotDecrypt."""
        why: CannotDecrypt | None = None  # of the first that should have fitted
        for transformer in self.transformers:
            if not value.startswith(transformer.prefix):
                continue
            try:
                return transformer.decrypt(value, key)
            except CannotDecrypt as error:
                why = why or error
        raise why or CannotDecrypt("no key that is configured has written it")

    def is_stale(self, value: bytes) -> bool:
        """Whether it was written with another key than it would be now."""
        writer = self.writer
        return not value.startswith(writer.prefix) if writer.prefix else value.startswith(ENCRYPTED)


PLAIN = Providers((Identity(),))


@dataclass(frozen=True, slots=True)
class Rule:
    """`*.apps`, `secrets`, `deployments.apps`, `*.` and `*.*`, and the keys for them."""

    resources: tuple[str, ...]
    providers: Providers

    def covers(self, group: str, plural: str) -> bool:
        return bool({f"{plural}.{group}" if group else plural, f"*.{group}", "*.*"}.intersection(self.resources))


class Rules:
    """The rules in their order; what none names is plain text."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._known: dict[str, Providers | None] = {}

    def providers_of(self, prefix: str) -> Providers | None:
        """For keys under `prefix`; None: they are no business of encryption."""
        if prefix in self._known:
            return self._known[prefix]
        group, plural = resource_of(prefix)
        found = next((r.providers for r in self._rules if r.covers(group, plural)), None)
        self._known[prefix] = found
        return found
