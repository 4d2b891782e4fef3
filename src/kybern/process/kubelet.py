"""The kubelet's composition root: flags to objects, one TaskGroup, until cancelled. Pods go on running without it.

Started by `kybern kubelet`, one a node, in the node's network namespace and the machine's mount namespace.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import generate_latest

from kybern.api.core_v1 import Node, Taint
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.kubelet import dns, eviction, image_collection, log_rotation
from kybern.kubelet.cgroups import hierarchy
from kybern.kubelet.cni import conflist, network
from kybern.kubelet.kubelet import Configuration, Kubelet
from kybern.kubelet.node import machine, status
from kybern.kubelet.server import access, application
from kybern.kubelet.server.sampler import Sampler
from kybern.kubelet.volumes import mount
from kybern.machinery import quantity, schema
from kybern.process import health
from kybern.wire import tls
from kybern.wire.http1.server import serve
from kybern.wire.message import Request

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of the kubelet (and fields of its configuration file) that have a meaning here. Durations in seconds."""

    kubeconfig: str = ""
    hostname_override: str = ""
    node_ip: str = ""  # comma-separated for two families
    provider_id: str = ""
    root_dir: str = "/var/lib/kubelet"
    container_runtime_endpoint: str = "unix:///run/containerd/containerd.sock"
    image_service_endpoint: str = ""
    pod_manifest_path: str = ""
    address: str = "0.0.0.0"
    port: int = 10250
    healthz_bind_address: str = "127.0.0.1"
    healthz_port: int = 10248  # 0: not served
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    cluster_dns: str = ""  # comma-separated
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    register_node: bool = True
    register_schedulable: bool = True
    register_with_taints: str = ""  # key=value:effect, comma-separated
    node_labels: str = ""  # key=value, comma-separated
    node_status_update_frequency: float = 10.0
    max_pods: int = 110
    pod_max_pids: int = -1
    cgroup_root: str = ""
    cpu_cfs_quota: bool = True
    system_reserved: str = ""  # cpu=100m,memory=100Mi
    kube_reserved: str = ""
    eviction_hard: str = "memory.available<100Mi,nodefs.available<10%"
    image_gc_high_threshold: int = 85
    image_gc_low_threshold: int = 80
    minimum_image_ttl_duration: float = 120.0
    seccomp_default: bool = False
    allowed_unsafe_sysctls: str = ""  # comma-separated, `net.core.*` as patterns
    container_log_max_size: str = "10Mi"
    container_log_max_files: int = 5
    pod_logs_dir: str = "/var/log/pods"
    container_logs_dir: str = "/var/log/containers"  # own: "" for no links
    cni_conf_dir: str = ""  # own: where the pod network's configuration is written; "" leaves it to others
    cluster_cidr: str = ""  # own: CIDRs of all nodes' pods, for that configuration
    cni_lease_dir: str = "/var/lib/cni/networks"  # own


def node_name(hostname_override: str) -> str:
    """The name this node has in the API."""
    return hostname_override.strip().lower() or socket.gethostname().lower()


def parse_pairs(text: str) -> dict[str, str]:
    """`a=1,b=2`. Raises ValueError."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"{part!r} is not key=value")
        found[key] = value
    return found


def parse_taints(text: str) -> tuple[Taint, ...]:
    """`key=value:effect,...`. Raises ValueError."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        left, colon, effect = part.rpartition(":")
        if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise ValueError(f"{part!r} is not key=value:effect")
        key, _, value = left.partition("=")
        found.append(Taint(key=key, value=value or None, effect=effect))
    return tuple(found)


def parse_eviction(text: str) -> tuple[int, float]:
    """(bytes of memory, part of the disk) that --eviction-hard keeps free. Raises ValueError."""
    memory, disk = 0, 0.0
    for part in filter(None, (p.strip() for p in text.split(","))):
        signal, less, amount = part.partition("<")
        if not less:
            raise ValueError(f"{part!r} is not signal<amount")
        if signal == "memory.available":
            memory = quantity.value(amount) if not amount.endswith("%") else 0
        elif signal == "nodefs.available" and amount.endswith("%"):
            disk = float(amount[:-1]) / 100
    return memory, disk


def _quantities(text: str) -> Mapping[str, str]:
    amounts = parse_pairs(text)
    for amount in amounts.values():
        quantity.nano(amount)
    return amounts


def configuration(options: Options) -> Configuration:
    """What the flags mean. Raises ValueError."""
    addresses = tuple(a.strip() for a in options.node_ip.split(",") if a.strip()) or (machine.default_address(),)
    for address in addresses:
        ipaddress.ip_address(address)
    memory, disk = parse_eviction(options.eviction_hard)
    return Configuration(
        root=Path(options.root_dir),
        identity=status.Identity(
            name=node_name(options.hostname_override),
            addresses=addresses,
            port=options.port,
            kubelet_version=schema.VERSION,
            labels=parse_pairs(options.node_labels),
            taints=parse_taints(options.register_with_taints),
            provider_id=options.provider_id,
            is_schedulable=options.register_schedulable,
        ),
        reserve=status.Reserve(
            system=_quantities(options.system_reserved),
            kube=_quantities(options.kube_reserved),
            memory_eviction=memory,
            disk_eviction=disk,
            max_pods=options.max_pods,
        ),
        cluster=dns.Cluster(
            tuple(s.strip() for s in options.cluster_dns.split(",") if s.strip()), options.cluster_domain
        ),
        resolv_conf=options.resolv_conf,
        log_root=options.pod_logs_dir,
        log_links=options.container_logs_dir,
        manifest_folder=options.pod_manifest_path,
        cgroup_root=options.cgroup_root,
        pod_pids=max(0, options.pod_max_pids),
        seccomp_default=options.seccomp_default,
        cpu_cfs_quota=options.cpu_cfs_quota,
        allowed_sysctls=tuple(s.strip() for s in options.allowed_unsafe_sysctls.split(",") if s.strip()),
        register=options.register_node,
        log_limits=log_rotation.Limits(quantity.value(options.container_log_max_size), options.container_log_max_files),
        eviction=eviction.Thresholds(memory, disk),
        image_thresholds=image_collection.Thresholds(
            options.image_gc_high_threshold, options.image_gc_low_threshold, options.minimum_image_ttl_duration
        ),
        node_status_period=options.node_status_update_frequency,
    )


def serving_pair(options: Options, config: Configuration, now: datetime.datetime) -> tls.KeyPair:
    """The server's certificate: of the flags, or a self-signed one below the root directory. Raises OSError."""
    if options.tls_cert_file:
        return tls.KeyPair(Path(options.tls_cert_file), Path(options.tls_private_key_file))
    folder = config.root / "pki"
    pair = tls.KeyPair(folder / "kubelet.crt", folder / "kubelet.key")
    if not pair.certificate.exists() or not pair.key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_self_signed(pair, config.identity, now)
    return pair


def _write_self_signed(pair: tls.KeyPair, identity: status.Identity, now: datetime.datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{identity.name}@{int(now.timestamp())}")])
    names: list[x509.GeneralName] = [x509.DNSName(identity.name)]
    names += [x509.IPAddress(ipaddress.ip_address(a)) for a in identity.addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(pair.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class _PodNetwork:
    """Writes the pod network's configuration once the node's pod CIDR is known."""

    def __init__(self, options: Options, kubelet: Kubelet, clock: RealClock) -> None:
        self._options = options
        self._kubelet = kubelet
        self._clock = clock
        self._written: tuple[str, ...] = ()

    async def run(self) -> None:
        while True:
            node = self._kubelet.node()
            cidrs = _pod_cidrs(node)
            if cidrs and cidrs != self._written:
                try:
                    await asyncio.to_thread(self._write, cidrs)
                    self._written = cidrs
                except (OSError, ValueError) as error:
                    log.warning("could not configure the pod network", error=str(error))
            await self._clock.sleep(0.2 if not self._written else 5.0)

    def _write(self, cidrs: tuple[str, ...]) -> None:
        cluster = tuple(c.strip() for c in self._options.cluster_cidr.split(",") if c.strip())
        wanted = conflist.PodNetwork(cidrs, cluster, self._options.cni_lease_dir)
        network.write_config(Path(self._options.cni_conf_dir), wanted)


def _pod_cidrs(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    return tuple(node.spec.podCIDRs) or tuple(c for c in [node.spec.podCIDR] if c)


async def run(options: Options) -> None:
    """Serve until cancelled."""
    from kybern.kubelet.cri.client import CriClient

    clock = RealClock()
    config = configuration(options)
    config.root.mkdir(parents=True, exist_ok=True)
    (config.root / "pods").mkdir(exist_ok=True, mode=0o750)
    try:
        await asyncio.to_thread(mount.share, str(config.root))
    except OSError as error:
        log.warning("mounts of pods cannot be passed on (mountPropagation)", error=str(error))
    facts = await asyncio.to_thread(machine.inspect, config.root)
    client = RestClient.from_kubeconfig(options.kubeconfig, clock, user_agent="kubelet/v1.36 (kybern)")
    cri = CriClient(options.container_runtime_endpoint, options.image_service_endpoint)
    groups = await asyncio.to_thread(hierarchy.detect)
    kubelet = Kubelet(config, facts, cri, client, groups, clock, random.SystemRandom())
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kubelet.run(), name="kubelet")
            await _serve(options, config, kubelet, client, tasks, clock)
            if options.cni_conf_dir:
                tasks.create_task(_PodNetwork(options, kubelet, clock).run(), name="pod network")
            if options.healthz_port:
                page = health.Page("kubelet", lambda: {"syncloop": kubelet.health()}, options=options)
                tasks.create_task(
                    health.serve_page(options.healthz_bind_address, options.healthz_port, page), name="health"
                )
    finally:
        client.close()
        await cri.close()


async def _serve(
    options: Options,
    config: Configuration,
    kubelet: Kubelet,
    client: RestClient,
    tasks: asyncio.TaskGroup,
    clock: RealClock,
) -> None:
    """The kubelet's own API."""
    pair = await asyncio.to_thread(serving_pair, options, config, clock.now())
    authorities = (Path(options.client_ca_file),) if options.client_ca_file else ()
    context = tls.server_context(pair, authorities)
    tasks.create_task(tls.Renewal(context, pair).run(clock), name="certificate renewal")
    sampler = Sampler(kubelet.cri, clock, config.root)
    tasks.create_task(sampler.run(), name="usage")
    server = application.KubeletServer(
        application.Setting(node_name=config.identity.name, cpus=kubelet.machine.cpus),
        kubelet.workers,
        kubelet.cri,
        access.DelegatedAccess(client, config.identity.name, clock),
        sampler,
        clock,
        lambda: generate_latest(kubelet.metrics.registry),
        kubelet.health,
    )
    listener = await serve(
        server.application,
        request_type=Request,
        tasks=tasks,
        clock=clock,
        host=options.address,
        port=options.port,
        ssl_context=context,
    )
    log.info("serving", address=options.address, port=listener.port)
