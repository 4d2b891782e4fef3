"""The objects that a binding names as parameters: of any kind that is served, custom resources too.

Called by both plugins, once a binding and write. Reads the watch caches, and keeps what it
converted while that is current.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from kybern.api import codec
from kybern.apiserver.registry.registry import Registry, Served
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import labels

_MOST_KEPT: Final = 512


class Unconfigured(Exception):
    """A policy (or one of its bindings) that cannot be applied to this write as it is written."""

    def __init__(self, message: str, *, of_policy: bool = False) -> None:
        super().__init__(message)
        self.of_policy = of_policy


class Params:
    """Looks parameters up."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kinds: dict[tuple[str, str], Served] = {}
        self._edition: object = None
        self._shown: dict[tuple[str, str], tuple[Entry, Any]] = {}

    def find(self, kind: Any, reference: Any, namespace: str) -> list[Any]:
        """JSON of the parameters; [None] where policy or binding ask for none, [] where none is found and may miss.

        `namespace` is that of the write. Raises Unconfigured.
        """
        if kind is None:
            return [None]
        served = self._served(kind)
        if served is None:
            group, _, version = (kind.apiVersion or "").rpartition("/")
            where = f"{group}/{version}" if group else f"/{version}"
            message = f"failed to find resource referenced by paramKind: '{where}, Kind={kind.kind}'"
            raise Unconfigured(f"failed to configure policy: {message}", of_policy=True)
        if reference is None:
            return [None]
        entries = self._entries(served, reference, namespace)
        if not entries and reference.parameterNotFoundAction == "Deny":
            raise _binding_fault("no params found for policy binding with `Deny` parameterNotFoundAction")
        return [self._show(served, entry) for entry in entries]

    def prepare(self, kind: Any, reference: Any, namespace: str) -> Awaitable[None] | None:
        """What must be awaited before `find`: a webhook that converts the parameters. None: nothing."""
        served = self._served(kind) if kind is not None and reference is not None else None
        if served is None or served.warm is None:
            return None
        try:
            entries = self._entries(served, reference, namespace)
        except Unconfigured:
            return None  # `find` tells it
        return served.warm([entry.data for entry in entries]) if entries else None

    def _entries(self, served: Served, reference: Any, namespace: str) -> list[Entry]:
        where = ""
        if served.resource.namespaced:
            where = reference.namespace or namespace
            if not where:
                raise _binding_fault(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif reference.namespace:
            raise _binding_fault("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        cache = served.store.cache
        if reference.name:
            found = cache.get(where, reference.name)
            return [found] if found is not None else []
        selector = labels.from_label_selector(reference.selector)
        entries = cache.entries(where if served.resource.namespaced else None)
        return [entry for entry in entries if selector.matches(entry.object.metadata.labels)]

    def _served(self, kind: Any) -> Served | None:
        if self._edition is not self._registry.edition:
            self._kinds = {}
            self._edition = self._registry.edition
        key = (kind.apiVersion or "", kind.kind or "")
        found = self._kinds.get(key)
        if found is None:
            for served in self._registry.served():
                if (served.resource.api_version, served.resource.kind) == key:
                    found = self._kinds[key] = served
                    break
        return found

    def _show(self, served: Served, entry: Entry) -> Any:
        key = (entry.key, served.resource.api_version)
        known = self._shown.get(key)
        if known is None or known[0] is not entry:
            if len(self._shown) >= _MOST_KEPT:
                self._shown.clear()
            known = self._shown[key] = (entry, codec.to_json(served.from_stored(entry.data)))
        return known[1]


def _binding_fault(message: str) -> Unconfigured:
    return Unconfigured(f"failed to configure binding: {message}")
