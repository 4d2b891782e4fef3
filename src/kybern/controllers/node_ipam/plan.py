"""Which range of the cluster's pod addresses a node gets: the lowest free one. Used by reconcile; no I/O."""

from __future__ import annotations

import ipaddress

MOST_SHARES = 1 << 16  # held by one
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ranges(text: str) -> list[Network]:
    """The networks of a comma-separated list. Raises ValueError."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def mask_for(network: Network, size: int) -> int:
    """Prefix length of a node's share: `size` for IPv4, 64 for IPv6 as upstream; never shorter than the whole."""
    return max(network.prefixlen, size if network.version == 4 else 64)


class Pool:
    """One network of the cluster, cut into equal shares, and which of them are taken. Giving one is as quick with
    thousands of nodes as with one."""

    def __init__(self, cluster: Network, mask: int) -> None:
        self.cluster = cluster
        self.mask = mask
        self._step = 1 << (cluster.max_prefixlen - mask)
        self._start, self._end = int(cluster.network_address), int(cluster.broadcast_address)
        self._total = (self._end - self._start + 1) // self._step
        self._taken: dict[int, int] = {}  # share -> how many hold (part of) it
        self._swallowed = 0  # how many hold (nearly) all of it
        self._hint = 0  # no share below is free

    def take(self, network: Network) -> None:
        """Somebody has these addresses, in this network or not."""
        shares = self._shares(network)
        if shares is None:
            self._swallowed += 1
            return
        for number in shares:
            self._taken[number] = self._taken.get(number, 0) + 1

    def release(self, network: Network) -> None:
        """Who took them has them no more."""
        shares = self._shares(network)
        if shares is None:
            self._swallowed -= 1
            return
        for number in shares:
            left = self._taken[number] - 1
            if left:
                self._taken[number] = left
            else:
                del self._taken[number]
                self._hint = min(self._hint, number)

    def free(self) -> Network | None:
        """The lowest share that nobody holds any of; None if there is none."""
        if self._swallowed:
            return None
        while self._hint < self._total and self._hint in self._taken:
            self._hint += 1
        if self._hint >= self._total:
            return None
        return ipaddress.ip_network((self._start + self._hint * self._step, self.mask))

    def _shares(self, network: Network) -> range | None:
        """The numbers of the shares it touches; None for too many to note each."""
        if network.version != self.cluster.version or not network.overlaps(self.cluster):
            return range(0)
        first = (max(int(network.network_address), self._start) - self._start) // self._step
        last = (min(int(network.broadcast_address), self._end) - self._start) // self._step
        return None if last - first > MOST_SHARES else range(first, last + 1)
