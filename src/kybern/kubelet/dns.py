"""What a pod's resolver and host files say: resolv.conf by dnsPolicy, host name, /etc/hosts.

Pure, but for `read_resolv_conf`. Used by sync/apply.
Source: "DNS for Services and Pods", "Adding entries to Pod /etc/hosts with HostAliases".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kybern.api.core_v1 import Pod
from kybern.kubelet.cri.contract import DnsConfig

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_TEXT = 2048
HOST_NAME_LIMIT = 64  # of the kernel
_CLUSTER_OPTIONS = ("ndots:5",)


@dataclass(frozen=True, slots=True)
class Cluster:
    """DNS of the cluster: --cluster-dns, --cluster-domain."""

    servers: tuple[str, ...] = ()
    domain: str = ""


def parse_resolv_conf(text: str) -> DnsConfig:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        fields = line.split("#")[0].split(";")[0].split()
        if len(fields) < 2:
            continue
        match fields[0]:
            case "nameserver":
                servers.append(fields[1])
            case "search":
                searches = [name.rstrip(".") or "." for name in fields[1:]]
            case "options":
                options = fields[1:]
    return DnsConfig(tuple(servers), tuple(searches), tuple(options))


def read_resolv_conf(path: str) -> DnsConfig:
    """Of the node; empty when there is none."""
    try:
        return parse_resolv_conf(Path(path).read_text(errors="replace")) if path else DnsConfig()
    except OSError:
        return DnsConfig()


def plan_dns(pod: Pod, cluster: Cluster, host: DnsConfig) -> tuple[DnsConfig, str]:
    """The pod's resolver, and a problem worth an event ("" for none)."""
    policy = pod.spec.dnsPolicy or "ClusterFirst"
    problem = ""
    if policy == "ClusterFirst" and pod.spec.hostNetwork:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and not cluster.servers:
        problem = (
            f"pod: {_pod_text(pod)}. kubelet does not have ClusterDNS IP configured and cannot create Pod using "
            f'"{policy}" policy. Falling back to "Default" policy.'
        )
        policy = "Default"
    match policy:
        case "None":
            base = DnsConfig()
        case "Default":
            base = host
        case _:
            base = DnsConfig(cluster.servers, (*_cluster_searches(pod, cluster), *host.searches), _CLUSTER_OPTIONS)
    return _bounded(_with_own(pod, base)), problem


def _pod_text(pod: Pod) -> str:
    return f'"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"'


def _cluster_searches(pod: Pod, cluster: Cluster) -> tuple[str, ...]:
    if not cluster.domain:
        return ()
    services = f"svc.{cluster.domain}"
    return (f"{pod.metadata.namespace}.{services}", services, cluster.domain)


def _with_own(pod: Pod, base: DnsConfig) -> DnsConfig:
    own = pod.spec.dnsConfig
    if own is None:
        return base
    options: dict[str, str] = dict(o.partition(":")[::2] for o in base.options)
    for option in own.options:
        if option.name:
            options[option.name] = option.value or ""
    return DnsConfig(
        tuple(dict.fromkeys([*base.servers, *own.nameservers])),
        tuple(dict.fromkeys([*base.searches, *own.searches])),
        tuple(f"{name}:{value}" if value else name for name, value in options.items()),
    )


def _bounded(config: DnsConfig) -> DnsConfig:
    """What the resolver of libc takes."""
    searches: list[str] = []
    length = 0
    for name in dict.fromkeys(config.searches):
        length += len(name) + 1
        if len(searches) == MAX_SEARCHES or length - 1 > MAX_SEARCH_TEXT:
            break
        searches.append(name)
    return DnsConfig(config.servers[:MAX_SERVERS], tuple(searches), config.options)


# Names.


def host_name(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """(hostname, domain) of a pod. Raises ValueError if the name is longer than the kernel takes."""
    if pod.spec.hostnameOverride:
        return pod.spec.hostnameOverride, ""
    name = (pod.spec.hostname or pod.metadata.name)[: HOST_NAME_LIMIT - 1].rstrip("-.")
    domain = ""
    if pod.spec.subdomain:
        domain = f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"
    if pod.spec.setHostnameAsFQDN and domain:
        full = f"{name}.{domain}"
        if len(full) > HOST_NAME_LIMIT:
            raise ValueError(
                f'failed to construct FQDN from pod hostname and cluster domain, FQDN "{full}" is too long '
                f"({HOST_NAME_LIMIT} characters is the max, {len(full)} characters requested)"
            )
        return full, domain
    return name, domain


def hosts_file(pod: Pod, pod_ips: Sequence[str], name: str, domain: str, node_hosts: str) -> str:
    """The text of /etc/hosts in the pod's containers. `node_hosts`: the node's own, for pods on the host's network."""
    if pod.spec.hostNetwork:
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        short = name.split(".", maxsplit=1)[0] if domain else name
        names = f"{short}.{domain}\t{short}" if domain else name
        lines += [f"{ip}\t{names}" for ip in pod_ips]
        text = "\n".join(lines) + "\n"
    if pod.spec.hostAliases:
        entries = ["\t".join([alias.ip, *alias.hostnames]) for alias in pod.spec.hostAliases]
        text += "\n# Entries added by HostAliases.\n" + "\n".join(entries) + "\n"
    return text
