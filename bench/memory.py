"""Idle memory of the control plane: API server with its store, controller manager, scheduler; resident set, MiB."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import apiserver
from kybern import pki
from kybern.client.clock import RealClock

SETTLE = 8.0  # seconds from start to measurement
GOAL = 250.0


def run() -> dict[str, float | str]:
    """Each process and the sum."""
    rows: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as name, apiserver.kybern(Path(name)) as server:
        cluster = pki.Cluster(server=f"https://127.0.0.1:{server.port}")
        made = pki.ensure(Path(name), names=["bench"], addresses=["127.0.0.1"], clock=RealClock(), cluster=cluster)
        peers = {"API server": server}
        for component, health in (("controller-manager", "--secure-port"), ("scheduler", "--secure-port")):
            command = [sys.executable, "-m", "kybern.cli.main", component, "--log-level", "error", "--no-leader-elect"]
            command += ["--kubeconfig", str(made.kubeconfig(component)), health, "0"]
            peers[component] = apiserver.Peer(0, subprocess.Popen(command))
        try:
            time.sleep(SETTLE)
            for label, peer in peers.items():
                rows[f"{label}, MiB"] = peer.rss_mib
        finally:
            for peer in list(peers.values())[1:]:
                peer.process.terminate()
                peer.process.wait(20)
    rows["control plane, MiB"] = sum(v for v in rows.values() if isinstance(v, float))
    rows["goal, MiB"] = GOAL
    return rows
