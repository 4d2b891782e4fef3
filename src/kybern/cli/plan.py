"""Which processes make a cluster, and with what flags: settings in, a supervisor's plan out. Pure."""

from __future__ import annotations

import ipaddress
import sys

from kybern.cli.pki.ensure import Pki
from kybern.cli.settings import Settings
from kybern.process.supervisor import Child, Plan


def plan_cluster(settings: Settings, pki: Pki, containerd_config: str) -> Plan:
    """Every component of a single node, in the order they are started."""
    commands: dict[str, tuple[str, ...]] = {
        "containerd": ("containerd", "--config", containerd_config, "--log-level", "warn"),
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
        "kubelet": _component("kubelet", **_kubelet(settings, pki)),
        "proxy": _component(
            "proxy",
            kubeconfig=pki.kubeconfig("proxy"),
            hostname_override=settings.node_name,
            cluster_cidr=settings.cluster_cidr,
        ),
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
    children = [Child(name, command, str(settings.log(name))) for name, command in commands.items()]
    return Plan(tuple(children), str(settings.state_file), str(settings.pid_file))


def plan_node_ranges(nodes: int, pods_per_node: int) -> tuple[str, int]:
    """The cluster's pod addresses and the prefix length of a node's share: enough for so many nodes.

    Raises ValueError where there are not so many addresses.
    """
    for cidr in ("10.244.0.0/16", "100.64.0.0/10"):  # the second is RFC 6598's, which no other network here uses
        network = ipaddress.ip_network(cidr)
        for size in range(24, 29):
            if 1 << (32 - size) >= pods_per_node + 4 and 1 << (size - network.prefixlen) > nodes:
                return cidr, size
    raise ValueError(f"no pod addresses for {nodes} nodes of {pods_per_node} pods")


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


def _kubelet(settings: Settings, pki: Pki) -> dict[str, object]:
    node = settings.node_name
    return {
        "kubeconfig": pki.kubeconfig(f"kubelet-{node}"),
        "hostname_override": node,
        "node_ip": settings.node_ip,
        "container_runtime_endpoint": f"unix://{settings.containerd_socket}",
        "root_dir": settings.data / "kubelet",
        "pod_manifest_path": settings.data / "static-pods",
        "cluster_dns": settings.cluster_dns,
        "cluster_domain": settings.cluster_domain,
        "client_ca_file": pki.ca,
        "tls_cert_file": pki.certificate(f"kubelet-{node}"),
        "tls_private_key_file": pki.key(f"kubelet-{node}"),
        "cni_conf_dir": settings.data / "cni/net.d",
        "cluster_cidr": settings.cluster_cidr,
    }


def _simulated_nodes(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "kubeconfig": pki.kubeconfig("admin"),
        "nodes": settings.simulated_nodes,
        "pods_per_node": settings.simulated_pods_per_node,
        "cluster_signing_cert_file": pki.ca,
        "cluster_signing_key_file": pki.key("ca"),
    }
