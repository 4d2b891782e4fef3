"""Small clusters in a short form, for the scheduler's tests and for the tool that asks a real scheduler about them.

A world has `nodes` and `pods` by name, `priorities`, other `objects` in full, and `cases`: pods to place. A pod is its
spec, with `labels`, `requests` and `ports` of its one container, `image`, and where it runs (`at`, `started`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from kybern.api import codec, core_v1
from kybern.machinery import defaults, labels
from kybern.scheduler import objects, terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.objects import NodeView, PodView
from kybern.scheduler.pod_info import PodInfo

T = TypeVar("T")
World = Mapping[str, Any]
STARTED = "2026-01-01T00:00:00Z"


def pod_of(name: str, short: World) -> dict[str, Any]:
    """A pod in full."""
    spec = dict(short)
    requests = spec.pop("requests", {})
    limits = {k: v for k, v in requests.items() if "/" in k}  # extended resources: the same, by rule
    container = {
        "name": "c",
        "image": spec.pop("image", "pause"),
        "ports": spec.pop("ports", []),
        "resources": {"requests": requests, "limits": limits},
    }
    meta = {"name": name, "namespace": "default", "labels": spec.pop("labels", {})}
    node, started = spec.pop("at", ""), spec.pop("started", STARTED)
    spec = {"terminationGracePeriodSeconds": 30, "containers": [container], **spec}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    if node:
        spec["nodeName"] = node
        pod["status"] = {"phase": "Running", "startTime": started}
    return pod


def node_of(name: str, short: World) -> dict[str, Any]:
    """A node in full: ready, with 4 cpu, 8Gi of memory and room for 110 pods unless its `amounts` say otherwise."""
    spec = dict(short)
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", **spec.pop("amounts", {})}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Test",
        "lastHeartbeatTime": "2036-01-01T00:00:00Z",
        "lastTransitionTime": STARTED,
    }
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **spec.pop("labels", {})}}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready], "images": spec.pop("images", [])}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec, "status": status}


def objects_of(world: World) -> list[dict[str, Any]]:
    """Everything in a world, in full."""
    made = [node_of(name, short) for name, short in world.get("nodes", {}).items()]
    for obj in world.get("objects", []):
        made.append({**obj, "metadata": {"namespace": "default", **obj["metadata"]}})
        if obj["kind"] in ("PersistentVolume", "StorageClass", "CSINode"):
            del made[-1]["metadata"]["namespace"]
    return made + [pod_of(name, short) for name, short in world.get("pods", {}).items()]


def pod(name: str, short: World, priorities: World | None = None) -> PodInfo:
    """A pod as the scheduler sees it, with what admission would have set."""
    full = pod_of(name, short)
    full["metadata"]["uid"] = name
    priority = (priorities or {}).get(short.get("priorityClassName", ""), short.get("priority", 0))
    fields = priority if isinstance(priority, dict) else {"value": priority}
    full["spec"] |= {"priority": fields["value"], "preemptionPolicy": fields.get("preemptionPolicy")}
    typed = codec.from_json(core_v1.Pod, {k: v for k, v in full.items() if v is not None})[0]
    defaults.apply(typed)
    return PodInfo(_view(PodView, codec.to_json(typed)))


def node(name: str, short: World) -> NodeView:
    return _view(NodeView, node_of(name, short))


def build(world: World) -> Cluster:
    """The world as the scheduler sees it."""
    cluster = Cluster()
    meta = {"name": "default", "labels": {"kubernetes.io/metadata.name": "default"}}
    cluster.namespaces["default"] = _view(objects.NamespaceView, {"metadata": meta})
    for name, short in world.get("nodes", {}).items():
        cluster.snapshot.put_node(node(name, short))
    for name, short in world.get("pods", {}).items():
        cluster.snapshot.add_pod(pod(name, short, world.get("priorities")), short["at"])
    for obj in objects_of({"objects": world.get("objects", [])}):
        _add(cluster, obj)
    return cluster


def _add(cluster: Cluster, obj: dict[str, Any]) -> None:
    name = obj["metadata"]["name"]
    match obj["kind"]:
        case "PersistentVolumeClaim":
            if obj["spec"].get("volumeName"):  # which the volume controller would have bound
                obj["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
            cluster.claims[f"default/{name}"] = _view(objects.ClaimView, obj)
        case "PersistentVolume":
            cluster.volumes[name] = _view(objects.PersistentVolumeView, obj)
        case "StorageClass":
            cluster.classes[name] = _view(objects.ClassView, obj)
        case "CSINode":
            cluster.csi_nodes[name] = _view(objects.CsiNodeView, obj)
        case "Service":
            service = _view(objects.ServiceView, obj)
            cluster.owners.setdefault("default", {})["Service", name] = labels.from_map(service.spec.selector)
        case "PodDisruptionBudget":
            budget = _view(objects.BudgetView, obj)
            selector = terms.compile_selector(budget.spec.selector)
            cluster.budgets.setdefault("default", {})[name] = (budget, selector)
        case kind:
            raise AssertionError(f"worlds know no {kind}")


def _view(kind: type[T], value: Any) -> T:
    found: T = codec.decode_pruned(kind, msgspec.json.encode(value))[0]
    return found
