"""What every cluster has from its first moment on: system namespaces, system priority classes, client CA for others.

Called by the API server at start, before it serves. Pure plans; the caller writes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap, Namespace
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scheduling_v1 import PriorityClass
from kybern.apiserver.admission.priority import CLASSES, PREEMPT
from kybern.apiserver.request import Reader

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
AUTHENTICATION = "extension-apiserver-authentication"  # config map in kube-system
_CLASSES = {
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}


def plan_namespaces(reader: Reader) -> list[Namespace]:
    """The system namespaces that are missing."""
    return [
        Namespace(metadata=ObjectMeta(name=name, labels={"kubernetes.io/metadata.name": name}))
        for name in SYSTEM_NAMESPACES
        if reader.get("namespaces", "", name) is None
    ]


def plan_priority_classes(reader: Reader) -> list[PriorityClass]:
    """The system priority classes that are missing."""
    return [
        PriorityClass(metadata=ObjectMeta(name=name), value=value, description=text, preemptionPolicy=PREEMPT)
        for name, (value, text) in _CLASSES.items()
        if reader.get(CLASSES, "", name) is None
    ]


def plan_authentication(
    reader: Reader, client_ca: bytes, front_proxy_ca: bytes, front_proxy_names: tuple[str, ...]
) -> ConfigMap | None:
    """Where aggregated API servers read how to authenticate what we forward; None when it is right already.

    To be created where the result has no resourceVersion, updated otherwise.
    """
    wanted = {"client-ca-file": client_ca.decode()} if client_ca else {}
    if front_proxy_ca:
        wanted |= {
            "requestheader-client-ca-file": front_proxy_ca.decode(),
            "requestheader-allowed-names": _json(front_proxy_names),
            "requestheader-username-headers": _json(["X-Remote-User"]),
            "requestheader-uid-headers": _json(["X-Remote-Uid"]),
            "requestheader-group-headers": _json(["X-Remote-Group"]),
            "requestheader-extra-headers-prefix": _json(["X-Remote-Extra-"]),
        }
    found: ConfigMap | None = reader.get("configmaps", "kube-system", AUTHENTICATION)
    if found is None:
        return ConfigMap(metadata=ObjectMeta(name=AUTHENTICATION, namespace="kube-system"), data=wanted)
    if all(found.data.get(key) == value for key, value in wanted.items()):
        return None
    changed = codec.clone(found)
    changed.data |= wanted
    return changed


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
