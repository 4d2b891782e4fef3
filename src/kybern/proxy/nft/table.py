"""The table `kybern-proxy` as it is without any Service: sets, maps, hooks, and the way a packet takes through them.

Read by transaction.py when the whole table is written. Pure.

    prerouting/output, before translation   firewall-check     loadBalancerSourceRanges
    prerouting/output, dstnat               services           service-ips, then service-nodeports -> chains
    input/forward/output                    endpoints-check    no endpoints: reject, or drop by policy
    forward/output                          cluster-ips-check  a port that the Service has not: reject; no Service: drop
    postrouting, srcnat                     masquerade what was marked, and pods that reach themselves

Text in nft's own language, not its JSON: nft 1.0.6 cannot declare `typeof` maps in JSON (docs/decisions/0010).
"""

from __future__ import annotations

from dataclasses import dataclass

FAMILY = "ip"
TABLE = "kybern-proxy"
WHERE = f"{FAMILY} {TABLE}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the fixed part depends on."""

    cluster_networks: tuple[str, ...] = ()  # CIDRs of pods; traffic to cluster IPs from elsewhere is masqueraded
    node_port_networks: tuple[str, ...] = ()  # CIDRs whose local addresses serve node ports; empty: all but loopback
    masquerade_bit: int = 14  # kube-proxy: --iptables-masquerade-bit
    masquerade_all: bool = False

    @property
    def mark(self) -> str:
        return f"{1 << self.masquerade_bit:#x}"


MAPS = {
    "service-ips": "type ipv4_addr . inet_proto . inet_service : verdict",
    "service-nodeports": "type inet_proto . inet_service : verdict",
    "no-endpoint-services": "type ipv4_addr . inet_proto . inet_service : verdict",
    "no-endpoint-nodeports": "type inet_proto . inet_service : verdict",
    "firewall-ips": "type ipv4_addr . inet_proto . inet_service : verdict",
}
PROTOCOLS = ("tcp", "udp", "sctp")
# The endpoints of an address and port, or of a node port, numbered from 0. One map a protocol: nft takes the type's
# `dport` for a condition, and refuses a rule that has another.
MAPS |= {
    f"endpoints-{p}": f"typeof ip daddr . {p} dport . numgen random mod 2 : ip daddr . {p} dport" for p in PROTOCOLS
}
MAPS |= {f"nodeport-endpoints-{p}": f"typeof {p} dport . numgen random mod 2 : ip daddr . {p} dport" for p in PROTOCOLS}
SETS = {
    "cluster-ips": "type ipv4_addr",
    "service-networks": "type ipv4_addr ; flags interval",
    "hairpin-connections": "type ipv4_addr . ipv4_addr",
}
# Clients of one endpoint. Bounded: who does not fit is balanced anew.
MEMORY_TYPE = "type ipv4_addr ; flags dynamic, timeout ; size 65536"

HOOKS = {
    "firewall-prerouting": "type filter hook prerouting priority -110",
    "firewall-output": "type filter hook output priority -110",
    "nat-prerouting": "type nat hook prerouting priority -100",
    "nat-output": "type nat hook output priority -100",
    "filter-input": "type filter hook input priority 0",
    "filter-forward": "type filter hook forward priority 0",
    "filter-output": "type filter hook output priority 0",
    "nat-postrouting": "type nat hook postrouting priority 100",
}
CHAINS = (
    "firewall-check",
    "services",
    "service-endpoints-check",
    "nodeport-endpoints-check",
    "cluster-ips-check",
    "mark-for-masquerade",
    "reject-chain",
)
FIXED_CHAINS = frozenset((*HOOKS, *CHAINS))


def fixed_rules(settings: Settings) -> list[tuple[str, str]]:
    """(chain, rule) in order."""
    service_key = "ip daddr . meta l4proto . th dport"
    node_key = "meta l4proto . th dport"
    local = "fib daddr type local ip daddr != 127.0.0.0/8"
    if settings.node_port_networks:
        local += f" ip daddr {{ {', '.join(settings.node_port_networks)} }}"
    rules = [
        ("firewall-prerouting", "ct state new jump firewall-check"),
        ("firewall-output", "ct state new jump firewall-check"),
        ("firewall-check", f"{service_key} vmap @firewall-ips"),
        ("nat-prerouting", "jump services"),
        ("nat-output", "jump services"),
        ("filter-input", "ct state new jump nodeport-endpoints-check"),
        ("filter-input", "ct state new jump service-endpoints-check"),
        ("filter-forward", "ct state new jump service-endpoints-check"),
        ("filter-forward", "ct state new jump cluster-ips-check"),
        # A reply that connection tracking does not know would pass untranslated, and the client would reset
        # the connection (Kubernetes issue 74839).
        ("filter-forward", "ct state invalid drop"),
        ("filter-output", "ct state new jump service-endpoints-check"),
        ("filter-output", "ct state new jump cluster-ips-check"),
        ("service-endpoints-check", f"{service_key} vmap @no-endpoint-services"),
        ("nodeport-endpoints-check", f"{local} {node_key} vmap @no-endpoint-nodeports"),
        ("cluster-ips-check", "ip daddr @cluster-ips goto reject-chain"),
        # An address that no Service has must not leave for the default gateway; it may get a Service any moment.
        ("cluster-ips-check", "ip daddr @service-networks drop"),
        ("mark-for-masquerade", f"meta mark set meta mark or {settings.mark}"),
        # The kernel sends one ICMP error a second to a client; resets are not held back.
        ("reject-chain", "meta l4proto tcp reject with tcp reset"),
        ("reject-chain", "reject"),
    ]
    if settings.masquerade_all:
        rules.append(("services", "ip daddr @cluster-ips jump mark-for-masquerade"))
    elif settings.cluster_networks:
        networks = ", ".join(settings.cluster_networks)
        rules.append(("services", f"ip saddr != {{ {networks} }} ip daddr @cluster-ips jump mark-for-masquerade"))
    rules += [
        ("services", f"{service_key} vmap @service-ips"),
        ("services", f"{local} {node_key} vmap @service-nodeports"),
        (
            "nat-postrouting",
            f"meta mark and {settings.mark} != 0 meta mark set meta mark xor {settings.mark} masquerade fully-random",
        ),
        ("nat-postrouting", "ct status dnat ip saddr . ip daddr @hairpin-connections masquerade fully-random"),
    ]
    return rules
