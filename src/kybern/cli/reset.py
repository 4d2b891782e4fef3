"""`kybern reset`: stop everything and take away all that a cluster leaves on a machine.

Pods go by way of the container runtime, which undoes their network and mounts; then daemons, rules, routes, mounts,
cgroups, files, in the reverse order of their making. Each step works when the ones before were done already.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from kybern.cli import containerd, node_network, settings, supervision
from kybern.cli.plan import CGROUPS
from kybern.cli.settings import LocalNode, Settings

_CGROUPS = Path("/sys/fs/cgroup")
_POD_LOGS = (Path("/var/log/pods"), Path("/var/log/containers"))
_PARENTS = ("kubepods", CGROUPS.removeprefix("/"))


@click.command()
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
@click.option("--run-dir", default=settings.RUN_DIRECTORY, show_default=True)
def reset(data_dir: str, run_dir: str) -> None:
    """Remove the cluster and everything it left on this machine. Its state is lost."""
    if os.geteuid() != 0:
        raise click.ClickException("removing a cluster needs root: use sudo")
    cluster = settings.load(data_dir)
    if cluster is None:
        if not Path(data_dir).exists() and not Path(run_dir).exists():
            click.echo("nothing to remove")
            return
        cluster = Settings(data_dir=data_dir, run_dir=run_dir, node_name="", node_ip="")
    faults = remove(cluster, click.echo)
    if faults:
        raise click.ClickException("could not remove everything:\n  " + "\n  ".join(faults))
    click.echo("the cluster is gone")


def remove(cluster: Settings, say: Callable[[str], None]) -> list[str]:
    """All steps; returns what could not be done."""
    faults = []
    for text, step in (
        ("stopping daemons", _stop_daemons),
        ("removing pods", _remove_pods),
        ("removing processes", _kill_processes),
        ("removing network rules", _remove_network),
        ("removing mounts", _unmount),
        ("removing cgroups", _remove_cgroups),
        ("removing files", _remove_files),
        ("restoring kernel settings", _restore_sysctls),
    ):
        say(text)
        try:
            step(cluster)
        except (OSError, subprocess.SubprocessError, TimeoutError, RuntimeError) as error:
            faults.append(f"{text}: {error}")
    return faults


def _stop_daemons(cluster: Settings) -> None:
    supervision.stop(cluster)


def _remove_pods(cluster: Settings) -> None:
    """With container runtimes of our own for the time it takes: the supervised ones are gone."""
    for node in cluster.local_nodes():
        if containerd.config_file(node).exists() and shutil.which("containerd") is not None:
            _remove_pods_of(node)


def _remove_pods_of(node: LocalNode) -> None:
    inside = node.inside() if (node_network.NAMESPACES / node.namespace).exists() else ()
    runtime = subprocess.Popen(
        [*inside, "containerd", "--config", str(containerd.write_config(node)), "--log-level", "fatal"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        asyncio.run(_remove_sandboxes(str(node.containerd_socket)))
    finally:
        runtime.terminate()
        try:
            runtime.wait(10)
        except subprocess.TimeoutExpired:
            runtime.kill()
            runtime.wait()


async def _remove_sandboxes(socket: str) -> None:
    from kybern.kubelet.cri.client import CriClient
    from kybern.kubelet.cri.contract import CriError

    client = CriClient(f"unix://{socket}")
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    sandboxes = await client.list_sandboxes()
                    break
                except CriError:
                    await asyncio.sleep(0.1)
            async with asyncio.TaskGroup() as tasks:
                for sandbox in sandboxes:
                    tasks.create_task(_remove_sandbox(client, sandbox.id), name=f"remove {sandbox.id}")
    finally:
        await client.close()


async def _remove_sandbox(client: object, sandbox: str) -> None:
    from kybern.kubelet.cri.client import CriClient
    from kybern.kubelet.cri.contract import CriError, SandboxId

    assert isinstance(client, CriClient)
    for container in await client.list_containers():
        if container.sandbox_id == sandbox:
            try:
                await client.stop_container(container.id, 0)
            except CriError:
                continue  # what is left of it is killed with its shim below
    try:
        await client.stop_sandbox(SandboxId(sandbox))
        await client.remove_sandbox(SandboxId(sandbox))
    except CriError as error:
        raise RuntimeError(f"sandbox {sandbox}: {error}") from None


def _kill_processes(cluster: Settings) -> None:
    """Shims of our containerd, what they run, and components whose supervisor was killed."""
    marks = [str(cluster.run).encode() + b"/", str(cluster.data).encode() + b"/"]
    for _ in range(50):
        found = [pid for pid, line in _processes() if any(mark in line for mark in marks) and _is_ours(line)]
        if not found:
            return
        for pid in found:
            _kill(pid)
        time.sleep(0.1)
    raise TimeoutError(f"processes do not end: {found}")


def _is_ours(line: bytes) -> bool:
    return any(name in line for name in (b"containerd", b"kybern.cli.main", b"kybern.process.supervisor"))


def _processes() -> Iterator[tuple[int, bytes]]:
    """(pid, command line) of every process but this one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes()
            except OSError:
                continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_network(cluster: Settings) -> None:
    from kybern.kubelet.cni import network
    from kybern.process import proxy

    asyncio.run(proxy.clean_up())
    network.cleanup(cluster.data / "cni/net.d", Path("/var/lib/cni/networks"))
    node_network.remove(cluster)


def _mount_points(below: tuple[Path, ...]) -> list[str]:
    """Mounts below these folders, the innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if any(point == str(b) or point.startswith(f"{b}/") for b in below):
            points.append(point)
    return points[::-1]


def _unmount(cluster: Settings) -> None:
    for point in _mount_points((cluster.data, cluster.run)):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    left = _mount_points((cluster.data, cluster.run))
    if left:
        raise RuntimeError(f"still mounted: {', '.join(left)}")


def _remove_cgroups(cluster: Settings) -> None:
    """Our groups in every hierarchy; only a leaf can be removed, so from the inside out."""
    left = []
    roots = [_CGROUPS, *(p for p in _CGROUPS.iterdir() if p.is_dir() and not p.is_symlink())]
    for root in roots:
        for parent in _PARENTS:
            top = root / parent
            if not top.is_dir():
                continue
            for path in sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
                _remove_cgroup(path)
            _remove_cgroup(top)
            if top.exists():
                left.append(str(top))
    if left:
        raise RuntimeError(f"in use: {', '.join(left)}")


def _remove_cgroup(path: Path) -> None:
    for _ in range(20):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)  # its last process is being reaped


def _remove_files(cluster: Settings) -> None:
    for folder in (cluster.data, cluster.run, *_POD_LOGS):
        if folder.exists():
            shutil.rmtree(folder)


def _restore_sysctls(cluster: Settings) -> None:
    for key, value in cluster.sysctls_before.items():
        Path("/proc/sys", *key.split(".")).write_text(value)
