"""Real network namespaces for tests: a node, its pods by the real CNI plugins, a client outside. Needs root.

Sockets belong to the namespace in which they are made, so that servers and clients of all namespaces live in the
test's process: `inside(name)` moves the calling thread there for a while. Everything is named `kybern-t-<id>-...`,
and taken away again by `close`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000
_PLUGINS = "/usr/lib/cni"


def can_run() -> bool:
    """Whether this process may make namespaces, and has what the tests use."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and Path(_PLUGINS, "ptp").exists()


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """The calling thread, and the processes and threads that it starts, are in the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        with open(path) as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"entering {path}")

    with open("/proc/thread-self/ns/net") as before:
        enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            if libc.setns(before.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "going back to the namespace before")


def run(*command: str, stdin: str = "", check: bool = True) -> str:
    """What a command prints."""
    result = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()} {result.stdout.strip()}")
    return result.stdout


@dataclass(frozen=True)
class Pod:
    """A namespace with an address from the node's range."""

    name: str
    namespace: str
    ip: str
    host_ports: tuple[dict[str, Any], ...] = ()


class Net:
    """One node at 192.0.2.1 with pods, and a neighbour outside at 192.0.2.9, its default gateway."""

    node_ip = "192.0.2.1"
    outside_ip = "192.0.2.9"

    def __init__(self) -> None:
        self.prefix = f"kybern-t-{secrets.token_hex(3)}"
        self.directory = Path(tempfile.mkdtemp(prefix="kybern-t-"))
        self.node, self.outside = f"{self.prefix}-node", f"{self.prefix}-out"
        self._namespaces: list[str] = []
        self._servers = _Servers()
        for name in (self.node, self.outside):
            self._add_namespace(name)
        run("ip", "-n", self.node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.outside)
        for name, address in ((self.node, self.node_ip), (self.outside, self.outside_ip)):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", self.node, "route", "add", "default", "via", self.outside_ip)
        run("ip", "-n", self.outside, "route", "add", "default", "via", self.node_ip)

    def close(self) -> None:
        self._servers.close()
        for name in reversed(self._namespaces):
            run("ip", "netns", "delete", name, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _add_namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    # pods
    def add_pod(self, conflist: bytes, name: str, host_ports: list[dict[str, Any]] | None = None) -> Pod:
        """A pod as the runtime would make it."""
        namespace = f"{self.prefix}-{name}"
        self._add_namespace(namespace)
        result = self._call_plugins("ADD", conflist, namespace, host_ports or [])
        return Pod(name, namespace, str(result["ips"][0]["address"]).partition("/")[0], tuple(host_ports or ()))

    def remove_pod(self, conflist: bytes, pod: Pod) -> None:
        self._call_plugins("DEL", conflist, pod.namespace, list(pod.host_ports))
        run("ip", "netns", "delete", pod.namespace)
        self._namespaces.remove(pod.namespace)

    def _call_plugins(self, verb: str, conflist: bytes, namespace: str, host_ports: list[Any]) -> Any:
        value, result = json.loads(conflist), None
        for plugin in value["plugins"]:
            config = {**plugin, "cniVersion": value["cniVersion"], "name": value["name"]}
            if result is not None:
                config["prevResult"] = result
            if plugin.get("capabilities", {}).get("portMappings"):
                config["runtimeConfig"] = {"portMappings": host_ports}
            environment = {
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": namespace,
                "CNI_NETNS": f"/run/netns/{namespace}",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": _PLUGINS,
                "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin"),
            }
            command = ["ip", "netns", "exec", self.node, f"{_PLUGINS}/{plugin['type']}"]
            done = subprocess.run(
                command, input=json.dumps(config), env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{plugin['type']} {verb}: {done.stdout}{done.stderr}")
            if verb == "ADD":
                result = json.loads(done.stdout)
        return result

    # traffic
    def serve(self, namespace: str, port: int, label: str, *, ip: str = "0.0.0.0") -> None:
        """Answer "<label> <client's address>" to every TCP connection and UDP packet."""
        with inside(namespace):
            listener = socket.create_server((ip, port), backlog=1024)
            packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            packets.bind((ip, port))
        self._servers.add(listener, label)
        self._servers.add(packets, label)

    def ask(self, namespace: str, ip: str, port: int, *, protocol: str = "tcp", timeout: float = 3.0) -> list[str]:
        """[label, client's address] as a server saw it. Raises OSError (refused, timed out)."""
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with inside(namespace):
            client = socket.socket(socket.AF_INET, kind)
        with client:
            client.settimeout(timeout)
            client.connect((ip, port))
            if protocol == "udp":
                client.send(b"?")
            return client.recv(1024).decode().split()


class _Servers:
    """All listeners of all namespaces, in one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ends = False
        self._wake, wakes = socket.socketpair()
        self._selector.register(wakes, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="servers", daemon=True)
        self._thread.start()

    def add(self, listener: socket.socket, label: str) -> None:
        listener.setblocking(False)
        with self._lock:
            self._selector.register(listener, selectors.EVENT_READ, label)
        self._wake.send(b"x")

    def close(self) -> None:
        self._ends = True
        self._wake.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._wake.close()

    def _run(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(1.0):
                assert isinstance(key.fileobj, socket.socket)
                if key.data is None:
                    key.fileobj.recv(64)
                    continue
                with contextlib.suppress(OSError):
                    self._answer(key.fileobj, key.data)

    def _answer(self, listener: socket.socket, label: str) -> None:
        if listener.type == socket.SOCK_DGRAM:
            _, client = listener.recvfrom(64)
            listener.sendto(f"{label} {client[0]}".encode(), client)
            return
        connection, client = listener.accept()
        with connection:
            connection.sendall(f"{label} {client[0]}".encode())
