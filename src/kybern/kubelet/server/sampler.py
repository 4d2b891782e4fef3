"""Take samples of the node and its containers, and keep the newest with cpu rates.

Reads /proc and the CRI every few seconds; application asks for `usage`. Rates need two samples, as with upstream.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from kybern.kubelet.cri.contract import ContainerUsage, Cri, CriError
from kybern.kubelet.server.summary import NodeSample, Usage
from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

_PERIOD = 10.0  # seconds; kubelet: housekeeping interval of cAdvisor
_MIN_SPAN = 1_000_000_000  # ns between samples that a rate may be computed from


class Sampler:
    """`run` it in a task, or `sample` when asked."""

    def __init__(self, cri: Cri, clock: Clock, data_directory: Path, proc: Path = Path("/proc")) -> None:
        self._cri = cri
        self._clock = clock
        self._data = data_directory
        self._proc = proc
        self._last: Usage | None = None

    async def run(self) -> None:
        while True:
            try:
                await self.sample()
            except (CriError, OSError, ValueError) as fault:
                log.warning("cannot sample usage", error=str(fault))
            await self._clock.sleep(_PERIOD)

    async def usage(self) -> Usage:
        """The newest sample; a first one is taken now. Raises CriError, OSError."""
        return self._last or await self.sample()

    async def sample(self) -> Usage:
        node = await asyncio.to_thread(read_node, self._proc, self._data, self._clock.now())
        containers = tuple(await self._cri.container_usage())
        self._last = plan_usage(self._last, node, containers)
        return self._last


def plan_usage(last: Usage | None, node: NodeSample, containers: Sequence[ContainerUsage]) -> Usage:
    """The new usage, with rates since `last` where that makes sense; else the old rates."""
    before = {c.id: c for c in last.containers} if last else {}
    rates = {}
    for now in containers:
        then = before.get(now.id)
        rate = _rate(then.timestamp, then.cpu_ns, now.timestamp, now.cpu_ns) if then else None
        if rate is None and last is not None:
            rate = last.nanocores.get(now.id)
        if rate is not None:
            rates[now.id] = rate
    node_rate = None
    if last is not None:
        span = int((node.time - last.node.time).total_seconds() * 1e9)
        node_rate = _rate(0, last.node.cpu_ns, span, node.cpu_ns)
        node_rate = node_rate if node_rate is not None else last.node_nanocores
    return Usage(node, node_rate, tuple(containers), rates)


def _rate(then: int, cpu_then: int, now: int, cpu_now: int) -> int | None:
    """Nanocores: cpu nanoseconds a second."""
    if now - then < _MIN_SPAN or cpu_now < cpu_then:
        return None
    return (cpu_now - cpu_then) * 1_000_000_000 // (now - then)


def read_node(proc: Path, data_directory: Path, now: datetime.datetime) -> NodeSample:
    """The machine as /proc tells it. Raises OSError, ValueError."""
    memory = parse_meminfo((proc / "meminfo").read_text())
    cpu_ns, boot_time = parse_stat((proc / "stat").read_text(), os.sysconf("SC_CLK_TCK"))
    counters = dict(line.split() for line in (proc / "vmstat").read_text().splitlines())
    filesystem = os.statvfs(data_directory)
    total, available = memory["MemTotal"], memory.get("MemAvailable", memory["MemFree"])
    return NodeSample(
        time=now,
        boot_time=datetime.datetime.fromtimestamp(boot_time, datetime.UTC),
        cpu_ns=cpu_ns,
        memory_total=total,
        memory_available=available,
        memory_usage=total - memory["MemFree"],
        memory_rss=memory.get("AnonPages", 0),
        page_faults=int(counters.get("pgfault", 0)),
        major_page_faults=int(counters.get("pgmajfault", 0)),
        swap_total=memory.get("SwapTotal", 0),
        swap_free=memory.get("SwapFree", 0),
        interfaces=parse_interfaces((proc / "net" / "dev").read_text()),
        filesystem=(
            filesystem.f_blocks * filesystem.f_frsize,
            filesystem.f_bavail * filesystem.f_frsize,
            filesystem.f_files,
            filesystem.f_ffree,
        ),
        processes=sum(1 for name in os.listdir(proc) if name.isdigit()),
        max_processes=int((proc / "sys" / "kernel" / "pid_max").read_text()),
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words:
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def parse_stat(text: str, ticks: int) -> tuple[int, int]:
    """(cpu nanoseconds in use since boot, boot time in seconds)."""
    cpu, boot = 0, 0
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["cpu"]:
            user, nice, system, _idle, _iowait, *rest = (int(word) for word in words[1:9])
            cpu = (user + nice + system + sum(rest)) * 1_000_000_000 // ticks
        elif words[:1] == ["btime"]:
            boot = int(words[1])
    return cpu, boot


def parse_interfaces(text: str) -> tuple[tuple[str, int, int, int, int], ...]:
    """Of /proc/net/dev, but for the loopback and pods' ends."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        name = name.strip()
        if name != "lo" and not name.startswith("veth") and len(numbers) >= 11:
            found.append((name, numbers[0], numbers[2], numbers[8], numbers[10]))
    return tuple(found)
