"""What the portmap plugin leaves in the nat table of iptables, and the commands that take it away. Pure.

The plugin removes a pod's own chain with the pod, and never the chains that it made for all of them.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable

_OURS = ("CNI-HOSTPORT-", "CNI-DN-", "CNI-SN-")


def plan_removal(listing: str) -> list[list[str]]:
    """Arguments of `iptables -t nat`, in order, from what `iptables -t nat -S` said."""
    lines = [words for words in map(_split, listing.splitlines()) if len(words) > 1]
    chains = [name for action, name, *_ in lines if action == "-N" and name.startswith(_OURS)]
    jumps = [["-D", *rest] for action, *rest in lines if action == "-A" and _is_jump(rest, chains)]
    return [*jumps, *(["-F", name] for name in chains), *(["-X", name] for name in chains)]


def has_rules(listing: str) -> bool:
    """Whether anything but empty built-in chains is listed."""
    return any(line.startswith(("-A", "-N")) for line in listing.splitlines())


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _is_jump(rule: Iterable[str], chains: list[str]) -> bool:
    chain, *words = rule
    return chain not in chains and any(a in ("-j", "-g") and b in chains for a, b in itertools.pairwise(words))
