"""The network between nodes on one machine: a namespace a node, all on one bridge, the machine among them.

Used by up (before the nodes' daemons start), doctor and reset. The bridge is in a namespace of its own, so that the
rules of the machine (and of whatever else runs there) see only what concerns the machine. `plan_*` is pure; `ensure`
and `remove` run what was planned, and change nothing when it was done before.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from kybern.cli.settings import LocalNode, Settings

HUB = "kybern-hub"  # the namespace with the bridge
BRIDGE = "nodes"
UPLINK = "kybern-nodes"  # the machine's interface; also the name of the table
NAMESPACES = Path("/run/netns")

Command = tuple[str, ...]


def plan_hub(settings: Settings) -> list[Command]:
    """The bridge, and the machine on it."""
    network = ipaddress.ip_network(settings.node_network)
    return [
        ("ip", "netns", "add", HUB),
        ("ip", "-n", HUB, "link", "add", BRIDGE, "type", "bridge"),
        ("ip", "-n", HUB, "link", "set", BRIDGE, "up"),
        ("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "host", "netns", HUB),
        ("ip", "-n", HUB, "link", "set", "host", "master", BRIDGE, "up"),
        ("ip", "address", "add", f"{network[1]}/{network.prefixlen}", "dev", UPLINK),
        ("ip", "link", "set", UPLINK, "up"),
    ]


def plan_node(settings: Settings, node: LocalNode, number: int) -> list[Command]:
    """One more node on the bridge. All it does not know goes to the machine, whose address it reaches directly."""
    network, space, port = ipaddress.ip_network(settings.node_network), node.namespace, f"node{number}"
    return [
        ("ip", "netns", "add", space),
        ("ip", "-n", space, "link", "set", "lo", "up"),
        ("ip", "-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", HUB),
        ("ip", "-n", HUB, "link", "set", port, "master", BRIDGE, "up"),
        ("ip", "-n", space, "address", "add", f"{node.address}/{network.prefixlen}", "dev", "eth0"),
        ("ip", "-n", space, "link", "set", "eth0", "up"),
        ("ip", "-n", space, "route", "add", "default", "via", str(network[1])),
        ("ip", "-n", space, "route", "add", f"{settings.node_ip}/32", "dev", "eth0"),  # a gateway to its pods
    ]


def render_masquerade(settings: Settings) -> str:
    """What nodes send past the cluster leaves as the machine. One transaction, whatever was there before."""
    inside = f"{settings.node_network}, {settings.cluster_cidr}"
    where = f"ip {UPLINK}"
    return (
        f"add table {where}\ndelete table {where}\nadd table {where}\n"
        f"add chain {where} postrouting {{ type nat hook postrouting priority 110 ; }}\n"
        f"add rule {where} postrouting ip saddr {settings.node_network} ip daddr != {{ {inside} }} masquerade\n"
    )


def overlap(network: str, taken: Iterable[str]) -> str:
    """The first of some networks that has addresses of `network`, or ""."""
    ours = ipaddress.ip_network(network)
    return next((other for other in taken if ours.overlaps(ipaddress.ip_network(other, strict=False))), "")


def ensure(settings: Settings) -> bool:
    """Make what is not there; whether anything was made. Raises OSError with the words of what failed."""
    nodes = settings.local_nodes()[1:]
    if not nodes:
        return False
    missing = [node for node in nodes if not (NAMESPACES / node.namespace).exists()]
    if not (NAMESPACES / HUB).exists():
        if taken := overlap(settings.node_network, (settings.cluster_cidr, settings.service_cidr, *_routes())):
            raise OSError(
                f"the nodes' network {settings.node_network} overlaps {taken}: choose another (--node-network)"
            )
        _run_all(HUB, plan_hub(settings))
        _run("nft", "-f", "-", text=render_masquerade(settings))
    for number, node in enumerate(nodes, 2):
        if node in missing:
            _run_all(node.namespace, plan_node(settings, node, number))
    return bool(missing)


def missing(settings: Settings) -> list[str]:
    """Nodes whose namespace is not there (after the machine was started anew, say)."""
    return [n.name for n in settings.local_nodes()[1:] if not (NAMESPACES / n.namespace).exists()]


def remove(settings: Settings) -> None:
    """Take everything away. Raises OSError."""
    if Path("/sys/class/net", UPLINK).exists():
        _run("ip", "link", "delete", UPLINK)
    for space in (*(node.namespace for node in settings.local_nodes()[1:]), HUB):
        if (NAMESPACES / space).exists():
            _run("ip", "netns", "delete", space)
    _run("nft", "-f", "-", text=f"add table ip {UPLINK}\ndelete table ip {UPLINK}\n")


def _run_all(space: str, commands: Sequence[Command]) -> None:
    """A namespace that is there is complete: one that cannot be made whole is taken away."""
    try:
        for command in commands:
            _run(*command)
    except OSError:
        subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
        raise


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _routes() -> list[str]:
    """Networks that this machine reaches otherwise than by its default route."""
    found = []
    for line in _run("ip", "-4", "route", "show").splitlines():
        words = line.removeprefix("unreachable ").removeprefix("blackhole ").split()
        if words and words[0] != "default":
            found.append(words[0])
    return found
