"""`kybern doctor`: can this machine run a cluster, and does the one that is there have what it needs?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from kybern.cli import node_network, settings, supervision, system


@click.command()
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def doctor(data_dir: str) -> None:
    """Check that this machine can run a cluster. Exit code 0: it can."""
    failed = False
    for name, fault in checks(data_dir):
        failed = failed or bool(fault)
        click.echo(f"{'FAIL' if fault else 'ok':5} {name}" + (f": {fault}" if fault else ""))
    sys.exit(1 if failed else 0)


def checks(data_dir: str) -> Iterator[tuple[str, str]]:
    """Each check with "" or what is wrong and what to do."""
    yield "root", "" if os.geteuid() == 0 else "containers need root: use sudo"
    for package in system.PACKAGES:
        fault = "" if system.is_there(package) else f"missing ({package.why}): apt-get install {package.name}"
        yield package.name, fault
    yield "overlay file system", "" if "overlay" in Path("/proc/filesystems").read_text() else "not in this kernel"
    yield "cgroups", _cgroups()
    free = shutil.disk_usage(_existing(Path(data_dir))).free
    yield "disk", "" if free > 2 << 30 else f"only {free >> 20} MiB free at {data_dir}, 2 GiB are needed"
    cluster = settings.load(data_dir)
    if cluster is None:
        for port in (6443, 10250):
            yield f"port {port}", _port(port)
    elif cluster.nodes > 1 and supervision.running_pid(cluster) is not None:
        away = node_network.missing(cluster)
        yield (
            "networks of the nodes",
            f"not there: {', '.join(away)}; run `kybern down` and `kybern up`" if away else "",
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _cgroups() -> str:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        missing = {"cpu", "memory", "pids"} - set((root / "cgroup.controllers").read_text().split())
    else:
        missing = {name for name in ("cpu", "memory", "pids") if not (root / name).is_dir()}
    return f"controllers not mounted: {', '.join(sorted(missing))}" if missing else ""


def _port(port: int) -> str:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return f"in use ({error.strerror})"
    return ""
