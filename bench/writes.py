"""Writes a second, from a client that costs the server next to nothing: wrk with `writes.lua`.

A client in Python takes as much of the machine for a write as the server does, so that its own speed is measured.
Templates may say {run}, {number} (of the request on its thread), {thread}, {object} (six digits, of those there are)
and {revision}: the resourceVersion in the last answer on the same connection, which then has a thread of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench import apiserver as base

SCRIPT = Path(__file__).with_name("writes.lua")
SECONDS = 4
NAMESPACE = "writes"  # what CREATE makes does not lengthen the lists of others
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/bench/leases"


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of write; `objects` is how many {object} may name."""

    method: str
    path: str
    body: bytes
    kind: str = "application/json"
    objects: int = 1


CREATE = Load("POST", PODS, base.pod("pod-{run}-{thread}-{number}", NAMESPACE, "{thread}"))


def patch_status(pods: int) -> Load:
    """As a kubelet reports a pod that runs."""
    container = {"name": "web", "ready": True, "image": "x", "imageID": "y"}
    status = {
        "phase": "Running",
        "podIP": "10.1.2.3",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{**container, "restartCount": "{number}"}],
    }
    body = orjson.dumps({"status": status}).replace(b'"{number}"', b"{number}")
    path = "/api/v1/namespaces/bench/pods/pod-{object}/status"
    return Load("PATCH", path, body, "application/strategic-merge-patch+json", pods)


def update_lease() -> Load:
    """As each node renews its own, with the resourceVersion it knows."""
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "node-{thread}", "namespace": "bench", "resourceVersion": "{revision}"},
        "spec": {
            "holderIdentity": "holder-{number}",
            "leaseDurationSeconds": 40,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        },
    }
    return Load("PUT", f"{LEASES}/node-{{thread}}", orjson.dumps(body))


async def prepare(port: int) -> None:
    """The namespace that CREATE fills, and a lease for each connection."""
    client = await base.Client(port).open()
    made: list[tuple[str, object]] = [
        ("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        (f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}}),
    ]
    made += [
        (LEASES, {"metadata": {"name": f"node-{number}"}, "spec": {"holderIdentity": "x"}})
        for number in range(base.CONNECTIONS)
    ]
    for path, body in made:
        code, text = await client.send("POST", path, orjson.dumps(body))
        if code not in (201, 409):  # there may be several rounds
            raise RuntimeError(f"{path}: {code} {text!r}")
    client.close()


def rate(port: int, load: Load, seconds: int = SECONDS) -> float:
    """Durable writes a second over all connections. `prepare` first."""
    asyncio.run(prepare(port))
    threads = base.CONNECTIONS if b"{revision}" in load.body else 1
    with tempfile.NamedTemporaryFile() as body:
        body.write(load.body)
        body.flush()
        run = secrets.token_hex(4)
        arguments = (base.TOKEN, load.method, load.kind, load.path, str(load.objects), body.name, run)
        return base.wrk(port, "/", seconds, f"-t{threads}", "-s", str(SCRIPT), arguments=arguments)
