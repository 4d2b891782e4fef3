"""Fifty simulated nodes and a hundred pods on a control plane of real processes: no root, no containers."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bench import scale
from kybern.api.apps_v1 import Deployment
from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import Event, Node, Pod
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client import kubeconfig
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery.status import ApiError
from kybern.process import simulated_nodes
from kybern.simulated import shape

pytestmark = pytest.mark.thorough
NODES, EACH = 50, 2


async def until(check: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = await check()
        except ApiError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"{check.__name__}: not within {seconds} s"
        await asyncio.sleep(0.25)


def test_simulated_nodes_run_and_end_what_the_real_control_plane_gives_them() -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kybern-e2e-")))
        plane = stack.enter_context(scale.plane(folder, NODES, EACH, "--pods-per-node", str(EACH)))
        try:
            asyncio.run(_scenario(plane))
        except BaseException:
            for log in sorted((folder / "log").glob("*.log")):
                print(log.name, log.read_text()[-2000:])
            raise


async def _scenario(plane: scale.Plane) -> None:
    client = plane.client()

    async def all_pods_run() -> list[Pod]:
        pods = (await client.list(Pod)).items
        return pods if sum(p.status.phase == "Running" for p in pods) == NODES * EACH else []

    async def all_nodes_are_ready() -> list[Node]:
        nodes = (await client.list(Node)).items
        return nodes if len(nodes) == NODES and all(len(n.spec.taints) == 1 and n.spec.podCIDR for n in nodes) else []

    pods = await until(all_pods_run, 120)
    nodes = {node.metadata.name: node for node in await until(all_nodes_are_ready, 60)}
    assert set(nodes) == set(shape.Shape(NODES).names())
    await _check_nodes(nodes, pods)

    async def slices_are_complete() -> bool:
        found = (await client.list(EndpointSlice, "simulated-0")).items
        ready = [e.addresses[0] for s in found for e in s.endpoints if e.conditions and e.conditions.ready]
        return sorted(ready) == sorted(p.status.podIP or "" for p in pods)

    await until(slices_are_complete, 30)
    await _check_identity(plane, client)
    await _check_metrics(plane)

    for deployment in (await client.list(Deployment)).items:
        patch = {"spec": {"replicas": 0}}
        await client.patch(Deployment, deployment.metadata.namespace, deployment.metadata.name, patch)

    async def all_pods_are_gone() -> bool:
        return not (await client.list(Pod)).items

    await until(all_pods_are_gone, 60)


async def _check_nodes(nodes: dict[str, Node], pods: list[Pod]) -> None:
    assert len({pod.status.podIP for pod in pods}) == len(pods)
    for pod in pods:
        node = nodes[pod.spec.nodeName or ""]
        assert ipaddress.ip_address(pod.status.podIP or "") in ipaddress.ip_network(node.spec.podCIDR or "")
    for node in nodes.values():
        assert [(t.key, t.effect) for t in node.spec.taints] == [(shape.TAINT.key, shape.TAINT.effect)]
        assert any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


async def _check_identity(plane: scale.Plane, client: RestClient) -> None:
    """Node authorization holds for simulated nodes: each renews its own lease and nobody else's."""
    leases = {lease.metadata.name: lease for lease in (await client.list(Lease, "kube-node-lease")).items}
    assert set(leases) == set(shape.Shape(NODES).names())
    options = simulated_nodes.Options(
        cluster_signing_cert_file=str(plane.folder / "pki/ca.crt"),
        cluster_signing_key_file=str(plane.folder / "pki/ca.key"),
    )
    access = kubeconfig.load(plane.folder / "kubeconfig/admin.conf")
    mine, other = sorted(leases)[:2]
    node = simulated_nodes.client_of(options, access, RealClock())(mine)
    assert (await node.get(Lease, "kube-node-lease", mine)).spec.holderIdentity == mine
    with pytest.raises(ApiError) as refused:
        await node.get(Lease, "kube-node-lease", other)
    assert refused.value.code == 403
    told = (await client.list(Event, field_selector="reason=Started")).items
    assert {event.source.component for event in told} == {"kubelet"}


async def _check_metrics(plane: scale.Plane) -> None:
    """The bench finds in the components' own metrics what it judges."""
    bench = scale.Bench(plane, NODES, EACH, 0.0, 1.0)
    assert await bench.started() == NODES * EACH
    judged = {(line.verb, line.resource, line.scope): line for line in scale.judge(await bench.sli())}
    assert judged["PATCH", "pods/status", "resource"].count >= NODES * EACH
    assert judged["POST", "pods/binding", "resource"].count == NODES * EACH
    assert judged["LIST", "pods", "cluster"].objective == 30.0
    assert not any(line.resource == "events" or line.verb == "WATCH" for line in judged.values())
