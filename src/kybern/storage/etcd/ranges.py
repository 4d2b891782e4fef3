"""Ranges of keys, as etcd names them: a first key, and the key after the last. Used by store and watch."""

from __future__ import annotations

EVERYTHING = b"\0"  # as the end of a range: to the last key there is


def span(prefix: str) -> tuple[bytes, bytes]:
    """First key and end of a range for all keys with a prefix."""
    begin = prefix.encode()
    end = begin.rstrip(b"\xff")
    if not end:
        return begin or b"\0", EVERYTHING
    return begin, end[:-1] + bytes([end[-1] + 1])
