"""A node's own containerd: its configuration, and images brought into it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kybern.cli.archive import PAUSE
from kybern.cli.settings import LocalNode

NAMESPACE = "k8s.io"


def config_file(node: LocalNode) -> Path:
    return node.data / "containerd/config.toml"


def write_config(node: LocalNode) -> Path:
    """Write config.toml for containerd 1.6 (configuration version 2, which 2.x reads as well)."""
    directory = node.data / "containerd"
    directory.mkdir(parents=True, exist_ok=True)
    (node.run / "containerd").mkdir(parents=True, exist_ok=True)
    network = node.data / "cni/net.d"
    network.mkdir(parents=True, exist_ok=True)
    file = config_file(node)
    protects = may_lower_oom_score()
    file.write_text(f"""# Written by `kybern up`.
version = 2
root = "{directory}/root"
state = "{node.run}/containerd/state"
oom_score = {-999 if protects else 0}

[grpc]
  address = "{node.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  restrict_oom_score_adj = {"false" if protects else "true"}
  max_container_log_line_size = 16384
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
""")
    return file


def may_lower_oom_score() -> bool:
    """Whether this machine lets root protect processes from the OOM killer (containers and some VMs do not)."""
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    try:
        own.write_text("-999")
    except OSError:
        return False
    own.write_text(before)
    return True


def ctr(node: LocalNode, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run `ctr` on the node's containerd. The caller looks at the exit code."""
    command = ["ctr", "--address", str(node.containerd_socket), "--namespace", NAMESPACE, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def has_image(node: LocalNode, reference: str) -> bool:
    listed = ctr(node, "images", "list", "--quiet")
    return reference in listed.stdout.decode().split()


def load_image(node: LocalNode, archive: bytes | Path) -> list[str]:
    """Import an OCI or docker archive; returns what was imported. Raises RuntimeError with containerd's words."""
    source = "-" if isinstance(archive, bytes) else str(archive)
    done = ctr(
        node, "images", "import", "--all-platforms", source, stdin=archive if isinstance(archive, bytes) else None
    )
    if done.returncode != 0:
        raise RuntimeError(f"importing the image failed: {done.stderr.decode(errors='replace').strip()}")
    names = []
    for line in done.stdout.decode().splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "unpacking":
            names.append(words[1])
    return names
