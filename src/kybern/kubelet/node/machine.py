"""Facts of the machine: what it has and what it is. Blocking reads of /proc, /etc and /sys, once at start."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    cpus: int
    memory: int  # bytes
    disk: int  # bytes of the file system of the kubelet's root
    hugepages: tuple[str, ...]  # sizes: "2Mi"
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str  # Go's name: amd64


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


def inspect(root: Path) -> Machine:
    return Machine(
        cpus=os.cpu_count() or 1,
        memory=parse_memory(_text("/proc/meminfo")),
        disk=_disk(root),
        hugepages=_hugepages(),
        machine_id=_text("/etc/machine-id").strip(),
        system_uuid=_text("/sys/class/dmi/id/product_uuid").strip() or _text("/etc/machine-id").strip(),
        boot_id=_text("/proc/sys/kernel/random/boot_id").strip(),
        kernel=platform.release(),
        os_image=parse_os_release(_text("/etc/os-release")),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def parse_memory(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def parse_os_release(text: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)"?', text, re.MULTILINE)
    return match.group(1) if match else "Linux"


def available_memory(meminfo: str) -> int:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def _disk(root: Path) -> int:
    facts = os.statvfs(root)
    return facts.f_blocks * facts.f_frsize


def _hugepages() -> tuple[str, ...]:
    found = []
    with contextlib.suppress(OSError):
        for entry in os.listdir("/sys/kernel/mm/hugepages"):
            match = re.fullmatch(r"hugepages-(\d+)kB", entry)
            if match:
                size = int(match.group(1))
                found.append(f"{size >> 20}Gi" if size >= 1 << 20 else f"{size >> 10}Mi")
    return tuple(sorted(found))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def default_address() -> str:
    """The address of the interface that packets to elsewhere leave by; loopback when there is none."""
    # Connecting a UDP socket sends nothing: it only asks the routing table.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"
