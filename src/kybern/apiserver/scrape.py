"""Metrics that are read from the server's parts when somebody scrapes: caches, watches, the build.

Called once by server. What is counted on the way of a request is in metrics; what priority and fairness knows is in
flow_control/numbers. Names are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kybern.apiserver import version
from kybern.apiserver.audit.record import Auditor
from kybern.apiserver.registry.registry import Objects
from kybern.apiserver.registry.resource_store import ResourceStore
from kybern.machinery import metrics
from kybern.machinery.metrics import Labels, Samples, Series

_RESOURCE: Labels = ("group", "resource")


def register(registry: metrics.Registry, objects: Objects) -> None:
    """Add all of them."""
    _add_stores(registry, objects)
    registry.add(_EventSizes(objects))
    build = version.build()
    names = ("major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler")
    registry.read(
        "gauge",
        "kubernetes_build_info",
        "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, "
        "build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
        (*names, "platform"),
        lambda: [(tuple(build[_camel(name)] for name in (*names, "platform")), 1)],
    )
    registry.read(
        "gauge",
        "version_info",
        "[ALPHA] Provides the compatibility version info of the component.",
        ("binary", "component", "emulation", "min_compat"),
        lambda: [(("1.36.0", "kube", "1.36", "1.35"), 1)],
    )


def register_audit(registry: metrics.Registry, auditor: Auditor | None) -> None:
    """What audit counts; zeros where it is off."""
    registry.read(
        "counter",
        "apiserver_audit_event_total",
        "[ALPHA] Counter of audit events generated and sent to the audit backend.",
        (),
        lambda: [((), auditor.events if auditor is not None else 0)],
    )
    registry.read(
        "counter",
        "apiserver_audit_level_total",
        "[ALPHA] Counter of policy levels for audit events (1 per request).",
        ("level",),
        lambda: [((level,), number) for level, number in auditor.levels.items()] if auditor is not None else [],
    )
    registry.read(
        "counter",
        "apiserver_audit_requests_rejected_total",
        "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.",
        (),
        lambda: [((), auditor.rejected if auditor is not None else 0)],
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _add_stores(registry: metrics.Registry, objects: Objects) -> None:
    def read(number: Callable[[ResourceStore], float]) -> Callable[[], Samples]:
        return lambda: [((s.resource.group, s.resource.plural), number(s)) for s in list(objects.stores.values())]

    registry.read(
        "gauge",
        "apiserver_storage_objects",
        "[STABLE] (Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of "
        "stored objects at the time of last check split by kind.",
        ("resource",),
        lambda: [((name,), len(store.cache)) for name, store in list(objects.stores.items())],
    )
    told: tuple[tuple[str, str, str, Callable[[ResourceStore], float]], ...] = (
        (
            "gauge",
            "apiserver_resource_objects",
            "[ALPHA] Number of stored objects at the time of last check split by kind.",
            lambda s: len(s.cache),
        ),
        (
            "gauge",
            "apiserver_resource_size_estimate_bytes",
            "[ALPHA] Estimated size of stored objects in database.",
            lambda s: s.cache.size,
        ),
        (
            "counter",
            "apiserver_storage_events_received_total",
            "[BETA] Number of etcd events received split by kind.",
            lambda s: s.cache.received,
        ),
        (
            "counter",
            "apiserver_watch_cache_events_received_total",
            "[ALPHA] Counter of events received in watch cache broken by resource type.",
            lambda s: s.cache.received,
        ),
        (
            "gauge",
            "apiserver_watch_cache_resource_version",
            "[ALPHA] Current resource version of watch cache broken by resource type.",
            lambda s: s.cache.changed_at,
        ),
    )
    for kind, name, text, number in told:
        registry.read(kind, name, text, _RESOURCE, read(number))
    registry.read(
        "counter",
        "apiserver_watch_events_total",
        "[ALPHA] Number of events sent in watch clients",
        (*_RESOURCE, "version"),
        lambda: [(key, series.total) for key, series in _sent(objects)],
    )


def _sent(objects: Objects) -> Iterable[tuple[Labels, Series]]:
    for store in list(objects.stores.values()):
        if store.hub.sent.total:
            yield (store.resource.group, store.resource.plural, store.resource.version), store.hub.sent


class _EventSizes:
    """apiserver_watch_events_sizes, of the hubs."""

    name = "apiserver_watch_events_sizes"

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def render(self, out: list[str]) -> None:
        found = sorted(_sent(self._objects), key=lambda item: item[0])
        if found:
            out.append(f"# HELP {self.name} [ALPHA] Watch event size distribution in bytes")
            out.append(f"# TYPE {self.name} histogram")
            for key, series in found:
                metrics.render_series(out, self.name, (*_RESOURCE, "version"), key, series)
