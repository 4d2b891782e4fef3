"""Stores that hold many pods before their server starts: written straight into SQLite or etcd, as a server left them.

A model pod is made by the server itself (created, bound, its status patched as a kubelet does), read back from its
store as it lies there (JSON or protobuf), and copied with other names, uids, nodes and addresses of the same length.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from bench.apiserver import TOKEN, Client
from kybern.storage.interface import Store

PODS_PATH = "/api/v1/namespaces/bench/pods"
KEYS = "/registry/pods/bench/"
SMALL = 100  # pods of a namespace beside it
SMALL_PATH = PODS_PATH.replace("bench", "small")
GROUP = 500  # pods with one value of the label `group`, however many there are in all
APPS = 100
NODES = 1_000
AT_ONCE = 512  # writes on their way

_NAME = "app-0000-7d4b9c8f6d-000000"
_IP = "10.100.100.100"
_CONTAINER = "containerd://" + "ab" * 24 + "0" * 16


def name_of(number: int) -> str:
    return f"app-{number % APPS:04d}-7d4b9c8f6d-{number:06d}"


@dataclass(frozen=True, slots=True)
class Model:
    """A pod as its server stores it."""

    value: bytes
    uid: bytes

    def copy(self, number: int) -> bytes:
        value = self.value.replace(self.uid, str(uuid.uuid4()).encode())
        for text, new in (
            (b"d-000000", b"d-%06d" % number),
            (b"app-0000", b"app-%04d" % (number % APPS)),
            (b"node-0000", b"node-%04d" % (number % NODES)),
            (b"group-0000", b"group-%04d" % (number // GROUP)),
            (_IP.encode(), b"10.%d.%d.%d" % (100 + number % 50, 100 + number // 50 % 100, 100 + number // 5000)),
            (b"0" * 16, b"%016d" % number),
        ):
            value = value.replace(text, new)
        return value


def _pod() -> bytes:
    container = {
        "name": "web",
        "image": "registry.example/web:1.0",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": f"KEY_{i}", "value": f"value-{i}"} for i in range(4)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
    }
    metadata = {
        "name": _NAME,
        "generateName": "app-0000-7d4b9c8f6d-",
        "namespace": "bench",
        "labels": {"app": "app-0000", "group": "group-0000", "pod-template-hash": "7d4b9c8f6d"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-0000-7d4b9c8f6d", "controller": True,
                "blockOwnerDeletion": True, "uid": "6f1c1f1e-0f53-4d5f-9a38-9a5c3a1d2b11",
            }
        ],
    }  # fmt: skip
    spec = {"nodeName": "node-0000", "containers": [container]}
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def _status() -> bytes:
    when = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": when}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "web", "ready": True, "started": True, "restartCount": 0, "image": "registry.example/web:1.0",
        "imageID": "registry.example/web@sha256:" + "cd" * 32, "containerID": _CONTAINER,
        "state": {"running": {"startedAt": when}}, "lastState": {},
    }  # fmt: skip
    addresses = {"podIP": _IP, "podIPs": [{"ip": _IP}], "hostIP": "192.168.0.10", "hostIPs": [{"ip": "192.168.0.10"}]}
    status = {
        "phase": "Running", "conditions": conditions, "containerStatuses": [container], "startTime": when,
        "qosClass": "Burstable", **addresses,
    }  # fmt: skip
    return orjson.dumps({"status": status})


async def make_model(port: int) -> None:
    """Let a server write the model into its store. The namespace exists (`apiserver.prepare`)."""
    client = await Client(port).open()
    body, path = _pod(), f"{PODS_PATH}/{_NAME}/status"
    code, text = await client.send("POST", PODS_PATH, body)
    if code != 201:
        raise RuntimeError(f"the model pod: {code} {text!r}")
    status = _status()
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nUser-Agent: kubelet/v1.36.0\r\n"
    kind = "Content-Type: application/strategic-merge-patch+json\r\n"
    client.raw(f"{head}{kind}Content-Length: {len(status)}\r\n\r\n".encode() + status)
    code, text = await client.answer()
    if code != 200:
        raise RuntimeError(f"the model pod's status: {code} {text!r}")
    client.close()


async def read_model(store: Store) -> Model:
    """The model out of the store of a server that has ended, or runs on etcd."""
    record = await store.get(KEYS + _NAME)
    if record is None:
        raise RuntimeError("the store holds no model pod")
    return Model(record.value, _uid_of(record.value))


def _uid_of(value: bytes) -> bytes:
    """The one that is not the owner's."""
    owner = b"6f1c1f1e-0f53-4d5f-9a38-9a5c3a1d2b11"
    found = set(re.findall(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", value)) - {owner}
    if len(found) != 1:
        raise RuntimeError(f"uids of the model: {found}")
    return found.pop()


async def fill(store: Store, model: Model, first: int, last: int) -> None:
    """Pods `first` to `last` - 1 into the store (number 0 is the model)."""
    await _write(store, KEYS, ((n, model.copy(n)) for n in range(max(1, first), last)))


async def fill_small(store: Store, model: Model) -> None:
    """The small namespace, whose name is as long."""
    small = (model.copy(n).replace(b"bench", b"small") for n in range(SMALL))
    await _write(store, KEYS.replace("bench", "small"), enumerate(small))


async def _write(store: Store, keys: str, values: Iterable[tuple[int, bytes]]) -> None:
    numbers = iter(values)
    while batch := list(itertools.islice(numbers, AT_ONCE)):
        await asyncio.gather(*(store.create(keys + name_of(n), value) for n, value in batch))
