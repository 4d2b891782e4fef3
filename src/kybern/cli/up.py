"""`kybern up`: a cluster on this machine, each part of it proved before the command ends."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from msgspec import structs

from kybern import pki
from kybern.cli import archive, cluster_client, containerd, node_network, probes, settings, supervision, system
from kybern.cli.plan import has_room, plan_cluster, plan_node_ranges
from kybern.cli.settings import Settings
from kybern.client.clock import RealClock
from kybern.storage.etcd import Endpoints

# Changed by the node agent and by `up`; what they were before is kept for `reset`.
SYSCTLS = ("net.ipv4.ip_forward", "net.ipv4.conf.all.send_redirects", "net.ipv4.conf.default.send_redirects")


class Progress:
    """What is being done, one line a step, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self._started:5.1f}s] {text}")


@click.command()
@click.option(
    "--data-dir", default=settings.DATA_DIRECTORY, show_default=True, help="where the cluster keeps its state"
)
@click.option("--node-ip", default="", help="this machine's address [default: detected]")
@click.option("--node-name", default="", help="[default: the host name]")
@click.option(
    "--nodes", default=0, help="so many nodes, in network namespaces of this machine [default: as before, or 1]"
)
@click.option("--node-network", default="", help="addresses of those nodes [default: 10.245.0.0/24]")
@click.option("--demo/--no-demo", default=False, help="deploy the demo application")
@click.option("--etcd", default="", help="keep the state in an etcd: https://host:2379,... [default: a file]")
@click.option("--etcd-ca", default="", help="PEM file of the authority of etcd's certificates")
@click.option("--etcd-cert", default="", help="PEM file of the certificate to show to etcd")
@click.option("--etcd-key", default="", help="and of its key")
@click.option(
    "--simulated-nodes", type=click.IntRange(0), default=None, help="nodes without containers [default: as it was]"
)
@click.option("--simulated-pods-per-node", type=click.IntRange(0), default=None, help="pods made for each of them")
@click.option("--timeout", default=60.0, show_default=True, help="seconds that each proof may take")
def up(
    data_dir: str,
    node_ip: str,
    node_name: str,
    nodes: int,
    node_network: str,
    demo: bool,
    etcd: str,
    etcd_ca: str,
    etcd_cert: str,
    etcd_key: str,
    simulated_nodes: int | None,
    simulated_pods_per_node: int | None,
    timeout: float,
) -> None:
    """Start a cluster on this machine, or bring it back as it was."""
    if os.geteuid() != 0:
        raise click.ClickException("a cluster runs containers and needs root: use sudo")
    missing = system.missing()
    if missing:
        names = " ".join(p.name for p in missing)
        raise click.ClickException(f"missing on this machine: {names} (install them, or run `make up`)")
    progress = Progress()
    size = _Size(nodes, node_network)
    cluster = _settle(data_dir, node_ip, node_name, size, (etcd, etcd_ca, etcd_cert, etcd_key))
    cluster = _settle_simulated(cluster, simulated_nodes, simulated_pods_per_node)
    try:
        start(cluster, progress)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    try:
        asyncio.run(_prove(cluster, progress, demo, timeout))
    except probes.ProbeFailed as error:
        raise click.ClickException(f"{error}\nlogs are in {cluster.data / 'log'}; see also `kybern doctor`") from None
    _say_how_to_go_on(cluster, demo)


@dataclass(frozen=True, slots=True)
class _Size:
    """What was asked for; 0 and "" are what there is, or the defaults."""

    nodes: int
    network: str

    def settle(self, existing: Settings | None) -> tuple[int, str]:
        """Raises ClickException for what can't be."""
        nodes = self.nodes or (existing.nodes if existing else 1)
        network = self.network or (existing.node_network if existing else settings.NODE_NETWORK)
        try:
            room = ipaddress.IPv4Network(network).num_addresses - 2  # the machine is one of them
        except ValueError as error:
            raise click.ClickException(f"--node-network {network}: {error}") from None
        if not 1 <= nodes <= room:
            raise click.ClickException(f"--nodes {nodes}: {network} has room for 1 to {room}")
        if existing is None or (nodes, network) == (existing.nodes, existing.node_network):
            return nodes, network
        if nodes < existing.nodes or (network != existing.node_network and existing.nodes > 1):
            raise click.ClickException(
                f"this cluster has {existing.nodes} nodes on {existing.node_network}: there can be more, not fewer"
            )
        if supervision.running_pid(existing) is not None:
            raise click.ClickException("nodes are added when the cluster is down: run `kybern down` first")
        return nodes, network


def _settle(data_dir: str, node_ip: str, node_name: str, size: _Size, etcd: tuple[str, str, str, str]) -> Settings:
    """The settings of the cluster that is there, or new ones."""
    existing = settings.load(data_dir)
    address = node_ip or settings.detect_node_ip()
    name = node_name or (existing.node_name if existing else settings.detect_node_name())
    before = existing.sysctls_before if existing else {key: _read_sysctl(key) for key in SYSCTLS}
    if existing and not etcd[0]:
        etcd = (existing.etcd_servers, existing.etcd_ca, existing.etcd_certificate, existing.etcd_key)
    elif existing and etcd[0] != existing.etcd_servers:
        where = existing.etcd_servers or "a file"
        raise click.ClickException(f"this cluster keeps its state in {where}: `kybern migrate` moves it")
    try:
        if etcd[0]:
            Endpoints.parse(*etcd)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    nodes, network = size.settle(existing)
    servers, ca, certificate, key = etcd
    cluster = Settings(
        data_dir=data_dir,
        node_name=name,
        node_ip=address,
        nodes=nodes,
        node_network=network,
        etcd_servers=servers,
        etcd_ca=ca and str(Path(ca).resolve()),
        etcd_certificate=certificate and str(Path(certificate).resolve()),
        etcd_key=key and str(Path(key).resolve()),
        sysctls_before=before,
    )
    cluster.save()
    return cluster


def _settle_simulated(cluster: Settings, nodes: int | None, pods_per_node: int | None) -> Settings:
    """How many nodes without containers: as asked for, or as it was. Pod addresses are dealt out once and for all."""
    changed = structs.replace(
        cluster,
        simulated_nodes=cluster.simulated_nodes if nodes is None else nodes,
        simulated_pods_per_node=cluster.simulated_pods_per_node if pods_per_node is None else pods_per_node,
    )
    if changed == cluster:
        return cluster
    if supervision.running_pid(cluster) is not None:
        raise click.ClickException("the cluster is running: `kybern down` first, then change its simulated nodes")
    nodes = changed.simulated_nodes + len(changed.local_nodes())
    if not has_room(changed.cluster_cidr, changed.node_cidr_mask_size, nodes, changed.simulated_pods_per_node):
        if (cluster.data / "store").exists() or cluster.etcd_servers:
            raise click.ClickException(f"{cluster.cluster_cidr} has no room for so many nodes: `kybern reset` first")
        try:
            cidr, size = plan_node_ranges(nodes, changed.simulated_pods_per_node)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        changed = structs.replace(changed, cluster_cidr=cidr, node_cidr_mask_size=size)
    changed.save()
    return changed


def start(cluster: Settings, progress: Progress) -> None:
    """Certificates, configuration, and the supervisor; a cluster that runs is left as it is."""
    if supervision.running_pid(cluster) is not None:
        progress.say("the cluster is running")
        return
    if supervision.stop_orphans(cluster):
        progress.say("components without a supervisor are stopped")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    clock = RealClock()
    nodes = cluster.local_nodes()
    shape = pki.Cluster(
        server=f"https://{cluster.node_ip}:{cluster.api_port}", nodes={node.name: [node.address] for node in nodes}
    )
    authority = pki.ensure(
        cluster.data, names=[cluster.node_name], addresses=[cluster.node_ip], clock=clock, cluster=shape
    )
    progress.say("certificates are ready")
    if node_network.ensure(cluster):
        progress.say("the network between the nodes is there")
    for directory in ("store", "log"):
        (cluster.data / directory).mkdir(parents=True, exist_ok=True)
    for node in nodes:
        for directory in ("kubelet", "static-pods"):
            (node.data / directory).mkdir(parents=True, exist_ok=True)
        node.run.mkdir(parents=True, exist_ok=True)
        containerd.write_config(node)
    plan = plan_cluster(cluster, authority)
    plan_file = cluster.run / "plan.json"
    plan_file.write_bytes(msgspec.json.encode(plan))
    with Path(cluster.log("supervisor")).open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-m", "kybern.process.supervisor", str(plan_file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    progress.say("components are starting")


async def _prove(cluster: Settings, progress: Progress, demo: bool, timeout: float) -> None:
    await asyncio.to_thread(_load_images, cluster, progress, timeout)
    client = cluster_client.connect(cluster)
    for index, probe in enumerate(probes.all_probes(cluster, client)):
        await probes.wait_for(probes.Probe(probe.name, probe.ask, timeout))
        progress.say(f"{probe.name} works")
        if index == 0 and demo:
            for obj in cluster_client.read_manifest("demo.yaml"):
                await cluster_client.ensure(client, obj)
    for probe in probes.simulated(client, cluster, timeout):
        await probes.wait_for(probe)
        progress.say(f"{probe.name} are there")
    if demo:
        for probe in probes.application(client, cluster):
            await probes.wait_for(probes.Probe(probe.name, probe.ask, timeout))
        progress.say("the demo application answers by name")
    client.close()


def _load_images(cluster: Settings, progress: Progress, timeout: float) -> None:
    """Build and import the images every cluster needs, once."""
    deadline = time.monotonic() + timeout
    held = supervision.held(cluster)
    images = [image() for image in (archive.pause, archive.busybox, archive.demo)]
    for node in cluster.local_nodes():
        if node.child("containerd") in held:
            continue
        while containerd.ctr(node, "version").returncode != 0:
            if time.monotonic() > deadline:
                probe = probes.Probe("container runtime", lambda: asyncio.sleep(0, ""), timeout)
                raise probes.ProbeFailed(probe, f"no answer on {node.containerd_socket}")
            time.sleep(0.05)
        for built in images:
            if not containerd.has_image(node, built.reference):
                containerd.load_image(node, archive.render(built))
    progress.say("images are there")


def _say_how_to_go_on(cluster: Settings, demo: bool) -> None:
    click.echo("")
    if demo:
        click.echo(f"  curl http://{cluster.node_ip}:30080/cgi-bin/index.cgi")
    click.echo(f"  export KUBECONFIG={cluster.admin_kubeconfig}")
    click.echo("  bin/kubectl get pods -A")


def _read_sysctl(key: str) -> str:
    return Path("/proc/sys", *key.split(".")).read_text().strip()
