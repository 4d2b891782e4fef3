"""Where a cluster keeps its things and how it was started: written by `up`, read by all other commands."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

DATA_DIRECTORY = "/var/lib/kybern"
RUN_DIRECTORY = "/run/kybern"
NODE_NETWORK = "10.245.0.0/24"


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node on this machine: where its daemons keep their things, and which network they see."""

    name: str
    address: str
    data: Path
    run: Path
    namespace: str = ""  # network namespace; "": the machine's own

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd/containerd.sock"

    @property
    def is_host(self) -> bool:
        return not self.namespace

    def child(self, component: str) -> str:
        """What the supervisor calls a daemon of this node."""
        return component if self.is_host else f"{component}@{self.name}"

    def inside(self) -> tuple[str, ...]:
        """What to put before a command that is to see the node's network. The mounts stay the machine's."""
        return () if self.is_host else ("nsenter", f"--net=/run/netns/{self.namespace}", "--")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster on this machine."""

    data_dir: str = DATA_DIRECTORY
    run_dir: str = RUN_DIRECTORY
    node_name: str
    node_ip: str
    api_port: int = 6443
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask_size: int = 24
    service_cidr: str = "10.96.0.0/12"
    cluster_dns: str = "10.96.0.10"
    cluster_domain: str = "cluster.local"
    # How many nodes there are: the machine itself, and namespaces on a network of their own.
    nodes: int = 1
    node_network: str = NODE_NETWORK
    # Where the store is, if it is an etcd: URLs of members, and PEM files to know them and be known.
    etcd_servers: str = ""
    etcd_ca: str = ""
    etcd_certificate: str = ""
    etcd_key: str = ""
    # Nodes without containers, and how many pods to make for each.
    simulated_nodes: int = 0
    simulated_pods_per_node: int = 0
    # Kernel settings as they were before `up` changed them, for `reset`.
    sysctls_before: dict[str, str] = {}

    @property
    def data(self) -> Path:
        return Path(self.data_dir)

    @property
    def run(self) -> Path:
        return Path(self.run_dir)

    def local_nodes(self) -> tuple[LocalNode, ...]:
        """The machine itself first, then those in namespaces."""
        found = [LocalNode(self.node_name, self.node_ip, self.data, self.run)]
        for number in range(2, self.nodes + 1):
            name = f"{self.node_name}-{number}"
            address = str(ipaddress.ip_network(self.node_network)[number])
            found.append(
                LocalNode(name, address, self.data / "nodes" / name, self.run / "nodes" / name, f"kybern-{name}")
            )
        return tuple(found)

    @property
    def admin_kubeconfig(self) -> Path:
        return self.data / "kubeconfig/admin.conf"

    @property
    def pid_file(self) -> Path:
        return self.run / "supervisor.pid"

    @property
    def state_file(self) -> Path:
        return self.run / "components.json"

    @property
    def held_file(self) -> Path:
        """Components that are not to run, as `kybern node stop` left them."""
        return self.run / "held.json"

    def log(self, component: str) -> Path:
        return self.data / "log" / f"{component}.log"

    def save(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "settings.json").write_bytes(msgspec.json.format(msgspec.json.encode(self)))


def load(data_dir: str = DATA_DIRECTORY) -> Settings | None:
    """The settings of the cluster in `data_dir`, if there is one."""
    file = Path(data_dir) / "settings.json"
    return msgspec.json.decode(file.read_bytes(), type=Settings) if file.exists() else None


def require(data_dir: str) -> Settings:
    """Like `load`, but no cluster is the user's mistake."""
    found = load(data_dir)
    if found is None:
        raise click.ClickException(f"there is no cluster in {data_dir}: start one with `kybern up`")
    return found


def detect_node_ip() -> str:
    """The address this machine would use towards others. Raises ClickException where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: chooses a route, sends nothing
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    if not address or address.startswith("127."):
        address = _first_address()
    if not address:
        raise click.ClickException("no IPv4 address found but loopback: pods could not reach the API; use --node-ip")
    return address


def _first_address() -> str:
    ip = shutil.which("ip")
    if ip is None:
        return ""
    shown = subprocess.run([ip, "-4", "-json", "addr", "show", "scope", "global"], capture_output=True, check=False)
    for link in msgspec.json.decode(shown.stdout or b"[]"):
        for address in link.get("addr_info", []):
            return str(address["local"])
    return ""


def detect_node_name() -> str:
    """The host name as Kubernetes wants it: lower-case."""
    return socket.gethostname().lower()
