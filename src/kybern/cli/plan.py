"""Which processes make a cluster, and with what flags: settings in, a supervisor's plan out. Pure."""

from __future__ import annotations

import ipaddress
import sys

from kybern.cli import containerd
from kybern.cli.settings import LocalNode, Settings
from kybern.pki.ensure import Pki
from kybern.process.supervisor import Child, Plan

USUAL_PODS = 110  # of a real node (kubelet: maxPods)
CGROUPS = "/kybern-nodes"  # below it are the groups of nodes in namespaces


def plan_cluster(settings: Settings, pki: Pki) -> Plan:
    """Every component of the control plane and of each node, in the order they are started."""
    nodes = settings.local_nodes()
    commands: dict[str, tuple[str, ...]] = {
        nodes[0].child("containerd"): _containerd(nodes[0]),
        "apiserver": _component("apiserver", **_apiserver(settings, pki)),
        "controller-manager": _component(
            "controller-manager",
            kubeconfig=pki.kubeconfig("controller-manager"),
            cluster_cidr=settings.cluster_cidr,
            node_cidr_mask_size=settings.node_cidr_mask_size,
            service_account_private_key_file=pki.directory / "sa.key",
            root_ca_file=pki.ca,
            cluster_signing_cert_file=pki.ca,
            cluster_signing_key_file=pki.key("ca"),
            leader_elect=bool(settings.etcd_servers),  # others may work on the same etcd
        ),
        "scheduler": _component(
            "scheduler", kubeconfig=pki.kubeconfig("scheduler"), leader_elect=bool(settings.etcd_servers)
        ),
        **_node(settings, pki, nodes[0]),
        "dns": _component(
            "dns",
            kubeconfig=pki.kubeconfig("dns"),
            bind_address=settings.node_ip,
            hostname_override=settings.node_name,
            cluster_domain=settings.cluster_domain,
            register=True,
        ),
    }
    if settings.simulated_nodes:
        commands["simulated-nodes"] = _component("simulated-nodes", **_simulated_nodes(settings, pki))
    for node in nodes[1:]:
        commands[node.child("containerd")] = _containerd(node)
        commands |= _node(settings, pki, node)
    children = [Child(name, command, str(settings.log(name))) for name, command in commands.items()]
    return Plan(tuple(children), str(settings.state_file), str(settings.pid_file), str(settings.held_file))


def _containerd(node: LocalNode) -> tuple[str, ...]:
    return (*node.inside(), "containerd", "--config", str(containerd.config_file(node)), "--log-level", "warn")


def _node(settings: Settings, pki: Pki, node: LocalNode) -> dict[str, tuple[str, ...]]:
    """The daemons of a node that speak to the API server."""
    proxy = _component(
        "proxy",
        kubeconfig=pki.kubeconfig("proxy"),
        hostname_override=node.name,
        cluster_cidr=settings.cluster_cidr,
    )
    return {
        node.child("kubelet"): node.inside() + _component("kubelet", **_kubelet(settings, pki, node)),
        node.child("proxy"): node.inside() + proxy,
    }


def plan_node_ranges(nodes: int, pods_per_node: int) -> tuple[str, int]:
    """The cluster's pod addresses and the prefix length of a node's share: enough for so many nodes, and for as many
    pods on any of them as a real one takes.

    Raises ValueError where there are not so many addresses.
    """
    for cidr in ("10.244.0.0/16", "100.64.0.0/10"):  # the second is RFC 6598's, which no other network here uses
        for size in range(24, 29):
            if has_room(cidr, size, nodes, pods_per_node):
                return cidr, size
    raise ValueError(f"no pod addresses for {nodes} nodes of {pods_per_node} pods")


def has_room(cidr: str, size: int, nodes: int, pods_per_node: int) -> bool:
    """Whether shares of prefix length `size` of the cluster's pod addresses are enough, in number and each."""
    room = max(pods_per_node, USUAL_PODS) + 4  # the network's own, the bridge's, and one that is being replaced
    return 1 << (32 - size) >= room and 1 << (size - ipaddress.ip_network(cidr).prefixlen) > nodes


def _component(name: str, **flags: object) -> tuple[str, ...]:
    """`python -m kybern.cli.main NAME --flag value ...`; truth values become --flag and --no-flag."""
    words = [sys.executable, "-m", "kybern.cli.main", name]
    for flag, value in flags.items():
        dashed = flag.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{dashed}" if value else f"--no-{dashed}")
        else:
            words += [f"--{dashed}", str(value)]
    return tuple(words)


def _apiserver(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "advertise_address": settings.node_ip,
        "secure_port": settings.api_port,
        **_store(settings),
        "tls_cert_file": pki.certificate("apiserver"),
        "tls_private_key_file": pki.key("apiserver"),
        "client_ca_file": pki.ca,
        "requestheader_client_ca_file": pki.certificate("front-proxy-ca"),
        "proxy_client_cert_file": pki.certificate("front-proxy-client"),
        "proxy_client_key_file": pki.key("front-proxy-client"),
        "kubelet_client_certificate": pki.certificate("apiserver-kubelet-client"),
        "kubelet_client_key": pki.key("apiserver-kubelet-client"),
        "kubelet_certificate_authority": pki.ca,
        "service_account_key_file": pki.directory / "sa.pub",
        "service_account_signing_key_file": pki.directory / "sa.key",
        "service_cluster_ip_range": settings.service_cidr,
        "encryption_provider_config": pki.encryption,
        "encryption_provider_config_automatic_reload": True,
        "admission_policy_dir": settings.data / "policies",
    }


def _store(settings: Settings) -> dict[str, object]:
    if not settings.etcd_servers:
        return {"store": settings.data / "store/kybern.db"}
    return {
        "etcd_servers": settings.etcd_servers,
        "etcd_cafile": settings.etcd_ca,
        "etcd_certfile": settings.etcd_certificate,
        "etcd_keyfile": settings.etcd_key,
    }


def _kubelet(settings: Settings, pki: Pki, node: LocalNode) -> dict[str, object]:
    flags: dict[str, object] = {
        "kubeconfig": pki.kubeconfig(f"kubelet-{node.name}"),
        "hostname_override": node.name,
        "node_ip": node.address,
        "container_runtime_endpoint": f"unix://{node.containerd_socket}",
        "root_dir": node.data / "kubelet",
        "pod_manifest_path": node.data / "static-pods",
        "cluster_dns": settings.cluster_dns,
        "cluster_domain": settings.cluster_domain,
        "client_ca_file": pki.ca,
        "tls_cert_file": pki.certificate(f"kubelet-{node.name}"),
        "tls_private_key_file": pki.key(f"kubelet-{node.name}"),
        "cni_conf_dir": node.data / "cni/net.d",
        "cluster_cidr": settings.cluster_cidr,
    }
    if not node.is_host:  # what is one place on a machine, and each kubelet tidies up as its own
        flags |= {
            "pod_logs_dir": node.data / "pod-logs",
            "container_logs_dir": "",
            "cni_lease_dir": node.data / "cni/networks",
            "cgroup_root": f"{CGROUPS}/{node.name}",
        }
    return flags


def _simulated_nodes(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "kubeconfig": pki.kubeconfig("admin"),
        "nodes": settings.simulated_nodes,
        "pods_per_node": settings.simulated_pods_per_node,
        "cluster_signing_cert_file": pki.ca,
        "cluster_signing_key_file": pki.key("ca"),
    }
