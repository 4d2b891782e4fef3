"""Debian's packages that a cluster needs: told, and installed where missing.

Run by `make up` and, with `--tests` or `--bench`, by `make test` and `make bench` (`python -m kybern.cli.system`);
asked by doctor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, what of it shows that it is there, and what for."""

    name: str
    proof: str  # a command, or an absolute path
    why: str


PACKAGES = (
    Package("containerd", "containerd", "runs containers"),
    Package("runc", "runc", "starts them"),
    Package("containernetworking-plugins", "/usr/lib/cni/bridge", "joins pods to the network"),
    Package("nftables", "nft", "services and address translation"),
    Package("iptables", "iptables", "host ports of the portmap plugin"),
    Package("conntrack", "conntrack", "forgets flows to endpoints that are gone"),
    Package("iproute2", "ip", "links and routes"),
    Package("busybox-static", "busybox", "the images of the pause container and the demo"),
    Package("mount", "mount", "volumes"),
    Package("util-linux", "nsenter", "entering pods' namespaces"),
    Package("curl", "curl", "the demo and the tests"),
    Package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "certificates of image registries"),
)

ETCD = Package("etcd-server", "etcd", "the store that several API servers share")
# What only tests need, and what only benchmarks: a client that costs nothing, and peers to be measured against.
TEST_PACKAGES = (ETCD,)
BENCH_PACKAGES = (
    ETCD,
    Package("nginx-light", "nginx", "how fast this machine serves bytes"),
    Package("wrk", "wrk", "the client of the benchmarks"),
)


def is_there(package: Package) -> bool:
    if package.proof.startswith("/"):
        return Path(package.proof).exists()
    return shutil.which(package.proof, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def missing(packages: Sequence[Package] = PACKAGES) -> list[Package]:
    return [package for package in packages if not is_there(package)]


def is_debian() -> bool:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return False
    return any(
        line in ("ID=debian", "ID_LIKE=debian") or line.startswith('ID_LIKE="debian') for line in text.splitlines()
    )


def install(packages: Sequence[Package] = PACKAGES) -> int:
    """Install what is missing. Returns an exit code; says what it does, and what to do where it can't."""
    wanted = missing(packages)
    if not wanted:
        return 0
    names = [package.name for package in wanted]
    if not is_debian():
        print("This is not a Debian system. Please install what these Debian packages hold, then run this again:")
        for package in wanted:
            print(f"  {package.name}: {package.why}")
        return 1
    if os.geteuid() != 0:
        print(f"Kybern runs containers and needs root. As root, run this again, or: apt-get install {' '.join(names)}")
        return 1
    print(f"installing Debian packages: {' '.join(names)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = _refuse_service_starts()
    try:
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names],
        ):
            done = subprocess.run(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
            )
            if done.returncode != 0:
                print(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
                return 1
    finally:
        if policy is not None:
            policy.unlink(missing_ok=True)
    return 0


def _refuse_service_starts() -> Path | None:
    """Keep packages from starting services (containerd runs under Kybern's supervisor, with its own state)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        return None
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    return policy


if __name__ == "__main__":
    more = {"--tests": TEST_PACKAGES, "--bench": BENCH_PACKAGES}
    sys.exit(install((*PACKAGES, *(package for flag in sys.argv[1:] for package in more[flag]))))
