"""Prove that a cluster works, part by part: each probe uses what it proves, none asks whether it should work.

Used by up and `status --wait`. A probe returns "" or what is still missing, and is asked again until its time is up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dnslib import DNSRecord

from kybern.api.apps_v1 import Deployment
from kybern.api.core_v1 import Node, Pod
from kybern.cli import cluster_client
from kybern.cli.settings import LocalNode, Settings
from kybern.cli.supervision import held
from kybern.client.rest import RestClient
from kybern.machinery.status import ApiError
from kybern.simulated.shape import TYPE, TYPE_LABEL
from kybern.simulated.workload import OURS

# How often a probe that is not content is asked again.
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to prove."""

    name: str
    ask: Callable[[], Awaitable[str]]
    seconds: float = 60.0


class ProbeFailed(Exception):
    """The time is up. Says which probe, and what it found last."""

    def __init__(self, probe: Probe, found: str) -> None:
        super().__init__(f"{probe.name}: {found} (waited {probe.seconds:.0f} s)")


async def wait_for(probe: Probe) -> float:
    """Ask until content; returns the seconds it took. Raises ProbeFailed."""
    started = time.monotonic()
    found = "not asked"
    while time.monotonic() - started < probe.seconds:
        try:
            async with asyncio.timeout(probe.seconds):
                found = await probe.ask()
        except (ApiError, OSError, TimeoutError) as error:
            found = str(error) or type(error).__name__
        if not found:
            return time.monotonic() - started
        await asyncio.sleep(_PAUSE)
    raise ProbeFailed(probe, found)


def all_probes(settings: Settings, client: RestClient) -> list[Probe]:
    """API, each node that was not stopped, cluster DNS through its Service, and a pod that uses both."""
    return [
        Probe("API", lambda: _api(client)),
        *(_node_probe(client, node) for node in settings.local_nodes() if node.child("kubelet") not in held(settings)),
        Probe("DNS", lambda: _dns(settings)),
        Probe("pod networking", lambda: _pod_network(client)),
    ]


def simulated(client: RestClient, settings: Settings, seconds: float) -> list[Probe]:
    """The simulated nodes and the pods on them, with time for as many as there are."""
    nodes, pods = settings.simulated_nodes, settings.simulated_nodes * settings.simulated_pods_per_node
    found = []
    if nodes:
        found.append(Probe(f"{nodes} simulated nodes", lambda: _ready_nodes(client, nodes), seconds + nodes * 0.1))
    if pods:
        found.append(Probe(f"{pods} simulated pods", lambda: _running_pods(client, pods), seconds + pods * 0.1))
    return found


async def _ready_nodes(client: RestClient, wanted: int) -> str:
    found = await client.list(Node, label_selector=f"{TYPE_LABEL}={TYPE}", resource_version="0")
    ready = sum(any(c.type == "Ready" and c.status == "True" for c in n.status.conditions) for n in found.items)
    return await _not_yet("ready", ready, wanted)


async def _running_pods(client: RestClient, wanted: int) -> str:
    found = await client.list(Deployment, label_selector=f"{OURS}=true", resource_version="0")
    return await _not_yet("ready", sum(d.status.readyReplicas or 0 for d in found.items), wanted)


async def _not_yet(state: str, found: int, wanted: int) -> str:
    """ "" once there are enough. Many are not asked for without a pause: counting them is work."""
    if found >= wanted:
        return ""
    await asyncio.sleep(min(5.0, wanted / 1000))
    return f"{found} of {wanted} are {state}"


async def _api(client: RestClient) -> str:
    answer = await client.request("GET", "/readyz")
    return "" if answer.status == 200 else answer.body.decode(errors="replace").strip()


def _node_probe(client: RestClient, node: LocalNode) -> Probe:
    return Probe("node" if node.is_host else f"node {node.name}", lambda: _node(client, node.name))


async def _node(client: RestClient, name: str) -> str:
    node = await client.get(Node, "", name)
    ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
    if ready is None:
        return "the node has no Ready condition"
    return "" if ready.status == "True" else (ready.message or ready.reason or "not ready")


async def _dns(settings: Settings) -> str:
    """Ask the Service's address, so that kube-proxy is on the way."""
    question = DNSRecord.question(f"kubernetes.default.svc.{settings.cluster_domain}", "A")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            if not answer.done():
                answer.set_result(data)

        def error_received(self, exc: Exception) -> None:
            if not answer.done():
                answer.set_exception(exc)

    transport, _ = await loop.create_datagram_endpoint(Protocol, remote_addr=(settings.cluster_dns, 53))
    try:
        transport.sendto(question.pack())
        async with asyncio.timeout(1):
            reply = DNSRecord.parse(await answer)
    except TimeoutError:
        return f"no answer from {settings.cluster_dns}"
    finally:
        transport.close()
    return "" if reply.rr else f"the answer has no address ({reply.header.rcode})"


async def _pod_network(client: RestClient) -> str:
    pod = cluster_client.read_manifest("probe.yaml")[0]
    namespace, name = pod.metadata.namespace, pod.metadata.name
    try:
        found = await client.get(Pod, namespace, name)
    except ApiError as error:
        if not error.is_not_found:
            raise
        await client.create(pod)
        return "the probe pod was not there"
    phase = found.status.phase
    if phase == "Succeeded":
        await client.delete(Pod, namespace, name, grace_period=0)
        return ""
    if phase == "Failed":
        answer = await client.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log")
        await client.delete(Pod, namespace, name, grace_period=0)
        return f"the probe pod failed: {answer.body.decode(errors='replace').strip()[-500:]}"
    waiting = [
        s.state.waiting.message or s.state.waiting.reason for s in found.status.containerStatuses if s.state.waiting
    ]
    return f"the probe pod is {phase}" + (f": {waiting[0]}" if waiting and waiting[0] else "")


def application(client: RestClient, settings: Settings, name: str = "demo") -> list[Probe]:
    """The demo's Deployment is complete, and its Service answers on this node by the cluster's DNS name."""

    async def rolled_out() -> str:
        deployment = await client.get(Deployment, "default", name)
        wanted, ready = deployment.spec.replicas or 0, deployment.status.availableReplicas or 0
        return "" if ready >= wanted else f"{ready} of {wanted} replicas are available"

    async def answers() -> str:
        address = await resolve(settings, f"{name}.default.svc.{settings.cluster_domain}")
        if not address:
            return "its name does not resolve"
        reader, writer = await asyncio.open_connection(address, 80)
        try:
            writer.write(b"GET /cgi-bin/index.cgi HTTP/1.0\r\n\r\n")
            async with asyncio.timeout(5):
                text = await reader.read()
        finally:
            writer.close()
        return "" if b"served by" in text else "no proper answer"

    return [Probe("demo rollout", rolled_out), Probe("demo answers by name", answers)]


async def resolve(settings: Settings, name: str) -> str:
    """The first address the cluster's DNS gives for a name, or ""."""
    question = DNSRecord.question(name, "A").pack()
    reader, writer = await asyncio.open_connection(settings.cluster_dns, 53)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        async with asyncio.timeout(2):
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = DNSRecord.parse(await reader.readexactly(size))
    except (TimeoutError, asyncio.IncompleteReadError):
        return ""
    finally:
        writer.close()
    return str(reply.rr[0].rdata) if reply.rr else ""
