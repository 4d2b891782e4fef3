"""`kybern node`: the nodes that are namespaces of this machine, and what happens when one fails."""

from __future__ import annotations

import click

from kybern.cli import settings, supervision
from kybern.cli.settings import LocalNode, Settings

_DAEMONS = ("containerd", "kubelet", "proxy")


@click.group()
def node() -> None:
    """The nodes of this machine (`kybern up --nodes N`): list them, stop one, start it again."""


@node.command(name="list")
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def list_nodes(data_dir: str) -> None:
    """Name, address, and whether the node's daemons are to run."""
    cluster = settings.require(data_dir)
    held = supervision.held(cluster)
    for found in cluster.local_nodes():
        state = "stopped" if found.child("kubelet") in held else "started"
        click.echo(f"{found.name:30} {found.address:16} {state}")


@node.command()
@click.argument("name")
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def stop(name: str, data_dir: str) -> None:
    """Stop a node's daemons, as if the node had failed. Its containers go on, and nobody hears of them."""
    _hold(data_dir, name, is_stopped=True)
    click.echo(f"{name} is stopped: in 40 s the cluster takes it for failed, and its pods are evicted after 5 minutes")


@node.command()
@click.argument("name")
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def start(name: str, data_dir: str) -> None:
    """Start a node's daemons again."""
    _hold(data_dir, name, is_stopped=False)
    click.echo(f"{name} is started")


def _hold(data_dir: str, name: str, *, is_stopped: bool) -> None:
    cluster = settings.require(data_dir)
    daemons = frozenset(_find(cluster, name).child(daemon) for daemon in _DAEMONS)
    held = supervision.held(cluster)
    try:
        supervision.hold(cluster, held | daemons if is_stopped else held - daemons)
    except TimeoutError as error:
        raise click.ClickException(str(error)) from None


def _find(cluster: Settings, name: str) -> LocalNode:
    nodes = cluster.local_nodes()
    for found in nodes:
        if found.name == name:
            return found
    raise click.ClickException(f"there is no node {name}: {', '.join(n.name for n in nodes)}")
