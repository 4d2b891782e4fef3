"""`kybern status`: which components run, and whether the cluster's parts work."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
import msgspec

from kybern.cli import cluster_client, probes, settings, supervision
from kybern.machinery.status import ApiError


@click.command()
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
@click.option("--wait", is_flag=True, help="until everything works")
@click.option("--timeout", default=60.0, show_default=True, help="seconds that --wait gives each part")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(data_dir: str, wait: bool, timeout: float, output: str) -> None:
    """How the cluster is. Exit code 0: everything works."""
    cluster = settings.require(data_dir)
    pids = supervision.children(cluster)
    components = {name: {"pid": pid, "running": supervision.is_alive(pid)} for name, pid in pids.items()}
    held = supervision.held(cluster)
    nodes = [
        {"name": node.name, "address": node.address, "stopped": node.child("kubelet") in held}
        for node in cluster.local_nodes()
    ]
    is_up = supervision.running_pid(cluster) is not None
    parts = asyncio.run(_parts(cluster, timeout if wait else 0.0)) if is_up or wait else {}
    works = is_up and all(not fault for fault in parts.values()) and bool(parts)
    report: dict[str, Any] = {
        "works": works,
        "running": is_up,
        "nodeName": cluster.node_name,
        "nodeIP": cluster.node_ip,
        "nodes": nodes,
        "kubeconfig": str(cluster.admin_kubeconfig),
        "components": components,
        "parts": {name: fault or "ok" for name, fault in parts.items()},
    }
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _show(report)
    sys.exit(0 if works else 1)


def _show(report: dict[str, Any]) -> None:
    if not report["running"]:
        click.echo("the cluster is down: start it with `kybern up`")
    for name, component in report["components"].items():
        click.echo(f"{name:20} {'running' if component['running'] else 'ended':8} pid {component['pid']}")
    for node in report["nodes"]:
        if node["stopped"]:
            click.echo(f"node {node['name']:15} stopped: `kybern node start {node['name']}`")
    for name, verdict in report["parts"].items():
        click.echo(f"{name:20} {verdict}")


async def _parts(cluster: settings.Settings, seconds: float) -> dict[str, str]:
    """Each part with "" or what is wrong. Without time to wait, each is asked once, and no pod is started."""
    found: dict[str, str] = {}
    client = cluster_client.connect(cluster)
    for probe in probes.all_probes(cluster, client):
        if seconds:
            try:
                await probes.wait_for(probes.Probe(probe.name, probe.ask, seconds))
                found[probe.name] = ""
            except probes.ProbeFailed as error:
                found[probe.name] = str(error)
            continue
        if probe.name == "pod networking":
            continue
        try:
            found[probe.name] = await probe.ask()
        except (ApiError, OSError, TimeoutError) as error:
            found[probe.name] = str(error) or type(error).__name__
    client.close()
    return found
