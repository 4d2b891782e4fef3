"""What is on a machine, so that before and after can be compared."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

_WATCHED = (
    "/var/lib/kybern", "/run/kybern", "/var/log/pods", "/var/log/containers", "/etc/cni", "/var/lib/cni",
    "/var/lib/kubelet", "/etc/kubernetes", "/run/netns", "/opt/cni", "/tmp",
)  # fmt: skip
_OURS = ("/var/lib/kybern", "/run/kybern", "/pause", "httpd")  # in command lines


@dataclass(frozen=True)
class Snapshot:
    """Sets of lines, one a thing."""

    interfaces: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]
    sysctls: frozenset[str]

    def added(self, later: Snapshot) -> dict[str, list[str]]:
        """What `later` has that this has not."""
        return {
            f.name: sorted(getattr(later, f.name) - getattr(self, f.name))
            for f in fields(self)
            if getattr(later, f.name) - getattr(self, f.name)
        }


def _lines(*command: str) -> frozenset[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return frozenset(line.strip() for line in done.stdout.splitlines() if line.strip())


def _interfaces() -> frozenset[str]:
    shown = subprocess.run(["ip", "-json", "link"], capture_output=True, check=True)
    return frozenset(link["ifname"] for link in json.loads(shown.stdout))


def _mounts() -> frozenset[str]:
    return frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _cgroups() -> frozenset[str]:
    return frozenset(str(p) for p in Path("/sys/fs/cgroup").rglob("*") if p.is_dir())


def _processes() -> frozenset[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if entry.name.isdigit() and any(word in line for word in _OURS) and "pytest" not in line:
            found.add(f"{entry.name} {line}")
    return frozenset(found)


def _files() -> frozenset[str]:
    found = set()
    for name in _WATCHED:
        root = Path(name)
        if not root.exists():
            continue
        if name == "/tmp":  # other programs work here: names of ours only
            found |= {str(p) for p in root.iterdir() if "kybern" in p.name}
            continue
        found.add(name)
        found |= {str(p) for p in root.rglob("*")}
    return frozenset(found)


def _sysctls() -> frozenset[str]:
    names = ("ip_forward", "conf/all/send_redirects", "conf/default/send_redirects")
    return frozenset(f"{n}={Path('/proc/sys/net/ipv4', n).read_text().strip()}" for n in names)


def snapshot() -> Snapshot:
    return Snapshot(
        interfaces=_interfaces(),
        routes=_lines("ip", "route", "show", "table", "all"),
        rules=_lines("nft", "list", "tables"),
        mounts=_mounts(),
        cgroups=_cgroups(),
        processes=_processes(),
        files=_files(),
        sysctls=_sysctls(),
    )
