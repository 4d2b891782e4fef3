"""Hosts on one switch, each in a network namespace, and links that fail. Needs root.

Used by tools/partitions. A `Switch` is a namespace with a bridge; hosts are joined by veth pairs, and the machine
itself is one more host, so that a test can reach them all. What is between two hosts can be cut (one way or both),
made lossy, made slow; everything is named `kybern-t-<id>-...` and taken away again by `close`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from kybern.testing.namespaces import run

_TABLE = """
table bridge faults {
    set cut { type ipv4_addr . ipv4_addr; }
    set lossy { type ipv4_addr . ipv4_addr; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip saddr . ip daddr @cut drop
        ip saddr . ip daddr @lossy numgen random mod 100 < 25 drop
    }
}
"""


class Switch:
    """Hosts at 198.18.N.2 and up (a network that is set aside for tests); the machine itself is at 198.18.N.1."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(3)
        self._net = f"198.18.{secrets.randbelow(250)}"
        self._hub = f"kybern-t-{self._id}-hub"
        self._uplink = f"kyt-{self._id}"
        self._namespaces = [self._hub]
        self._addresses: dict[str, str] = {}
        run("ip", "netns", "add", self._hub)
        try:
            self._in_hub("link", "add", "switch", "type", "bridge")
            self._in_hub("link", "set", "switch", "up")
            run("ip", "link", "add", self._uplink, "type", "veth", "peer", "name", "uplink", "netns", self._hub)
            self._in_hub("link", "set", "uplink", "master", "switch", "up")
            run("ip", "address", "add", f"{self._net}.1/24", "dev", self._uplink)
            run("ip", "link", "set", self._uplink, "up")
            self._nft(_TABLE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        run("ip", "link", "delete", self._uplink, check=False)
        for name in reversed(self._namespaces):
            run("ip", "netns", "delete", name, check=False)

    def add(self, host: str) -> str:
        """Join a host; returns its address."""
        namespace = self.namespace(host)
        address = f"{self._net}.{2 + len(self._addresses)}"
        run("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", self._hub)
        self._in_hub("link", "set", host, "master", "switch", "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        self._addresses[host] = address
        return address

    def namespace(self, host: str) -> str:
        return f"kybern-t-{self._id}-{host}"

    def command(self, host: str) -> tuple[str, ...]:
        """What to put before a command that is to run on the host."""
        return ("ip", "netns", "exec", self.namespace(host))

    def cut(self, sources: Iterable[str], targets: Iterable[str], *, both: bool = True) -> None:
        """Nothing from any of `sources` reaches any of `targets`; nor back, unless it is said."""
        self._add("cut", sources, targets, both)

    def lose(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """A quarter of what is sent is lost, both ways."""
        self._add("lossy", sources, targets, True)

    def slow(self, host: str, kilobits: int) -> None:
        """So much a second reaches the host, behind a queue of 0.3 s; what does not fit into it is lost."""
        shape = ("tbf", "rate", f"{kilobits}kbit", "burst", "8kb", "latency", "300ms")
        run("ip", "netns", "exec", self._hub, "tc", "qdisc", "replace", "dev", host, "root", *shape)

    def unplug(self, host: str) -> None:
        self._in_hub("link", "set", host, "down")

    def heal(self) -> None:
        """All links are whole again."""
        self._nft("flush set bridge faults cut\nflush set bridge faults lossy\n")
        for host in self._addresses:
            self._in_hub("link", "set", host, "up")
            run("ip", "netns", "exec", self._hub, "tc", "qdisc", "delete", "dev", host, "root", check=False)

    def _add(self, name: str, sources: Iterable[str], targets: Iterable[str], both: bool) -> None:
        pairs = {(a, b) for a in sources for b in targets if a != b}
        if both:
            pairs |= {(b, a) for a, b in pairs}
        if pairs:
            elements = ", ".join(f"{self._addresses[a]} . {self._addresses[b]}" for a, b in sorted(pairs))
            self._nft(f"add element bridge faults {name} {{ {elements} }}\n")

    def _in_hub(self, *words: str) -> None:
        run("ip", "-n", self._hub, *words)

    def _nft(self, script: str) -> None:
        run("ip", "netns", "exec", self._hub, "nft", "-f", "-", stdin=script)
