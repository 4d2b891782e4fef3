"""Which range of the cluster's pod addresses a node gets: the lowest free one. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ranges(text: str) -> list[Network]:
    """The networks of a comma-separated list. Raises ValueError."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def mask_for(network: Network, size: int) -> int:
    """Prefix length of a node's share: `size` for IPv4, 64 for IPv6 as upstream; never shorter than the whole."""
    return max(network.prefixlen, size if network.version == 4 else 64)


def free_range(cluster: Network, mask: int, taken: Iterable[Network]) -> Network | None:
    """The lowest subnet of that size that overlaps nothing taken; None if all are."""
    step = 1 << (cluster.max_prefixlen - mask)
    start, end = int(cluster.network_address), int(cluster.broadcast_address)
    blocks: set[int] = set()
    for other in taken:
        if other.version != cluster.version or not other.overlaps(cluster):
            continue
        first = (max(int(other.network_address), start) - start) // step
        last = (min(int(other.broadcast_address), end) - start) // step
        if last - first > 1 << 16:
            return None  # somebody took (nearly) everything
        blocks.update(range(first, last + 1))
    total = (end - start + 1) // step
    for number in range(total):
        if number not in blocks:
            return ipaddress.ip_network((start + number * step, mask))
        if number > len(blocks):
            break
    return None
