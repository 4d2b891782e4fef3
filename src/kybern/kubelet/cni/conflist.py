"""What to tell the CNI plugins and nftables for one node's pod network. Pure; network.py writes it.

Source: CNI specification 1.0; the ptp, host-local and portmap pages of the CNI plugins' documentation.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

import msgspec

NAME = "kybern"
FILE = "10-kybern.conflist"
MASQUERADE_TABLE = "kybern-masq"


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """One node's part of the pod network."""

    pod_cidrs: tuple[str, ...]  # of this node
    cluster_cidrs: tuple[str, ...] = ()  # of all nodes; pods reach these without masquerade
    lease_directory: str = "/var/lib/cni/networks"  # where host-local keeps what it gave out
    mtu: int = 0  # 0: that of the interface of the default route
    # Checked on construction, so that a bad CIDR is told to whoever set it.
    ranges: tuple[ipaddress.IPv4Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        networks = [ipaddress.ip_network(c.strip(), strict=False) for c in (*self.pod_cidrs, *self.cluster_cidrs)]
        ranges = tuple(n for n in networks[: len(self.pod_cidrs)] if isinstance(n, ipaddress.IPv4Network))
        if not ranges:
            raise ValueError(f"no IPv4 network in the node's podCIDRs {', '.join(self.pod_cidrs) or '(none)'}")
        object.__setattr__(self, "ranges", ranges)


def render_conflist(network: PodNetwork, mtu: int) -> bytes:
    """The network configuration list: a routed link a pod, addresses, host ports."""
    plugins = [
        {
            "type": "ptp",
            "mtu": mtu,
            "ipMasq": False,  # the plugin knows only its own node's network, and would masquerade between nodes
            "ipam": {
                "type": "host-local",
                "dataDir": network.lease_directory,
                "ranges": [[{"subnet": str(n)}] for n in network.ranges],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ]
    value = {"cniVersion": "1.0.0", "name": NAME, "plugins": plugins}
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


def render_masquerade(network: PodNetwork) -> str:
    """What leaves the cluster leaves as the node. One transaction, whatever was there before."""
    where = f"ip {MASQUERADE_TABLE}"
    pods = ", ".join(map(str, network.ranges))
    inside = ", ".join(map(str, _inside(network)))
    return (
        f"add table {where}\ndelete table {where}\nadd table {where}\n"
        f"add chain {where} postrouting {{ type nat hook postrouting priority 110 ; }}\n"
        f"add rule {where} postrouting ip saddr {{ {pods} }} ip daddr != {{ {inside} }} masquerade fully-random\n"
    )


def _inside(network: PodNetwork) -> list[ipaddress.IPv4Network]:
    multicast = ipaddress.IPv4Network("224.0.0.0/4")
    cluster = [ipaddress.ip_network(c.strip(), strict=False) for c in network.cluster_cidrs]
    found = [*network.ranges, *(n for n in cluster if isinstance(n, ipaddress.IPv4Network)), multicast]
    return list(ipaddress.collapse_addresses(found))


def render_removal() -> str:
    """Take the masquerade table away, whether it is there or not."""
    return f"add table ip {MASQUERADE_TABLE}\ndelete table ip {MASQUERADE_TABLE}\n"
