"""Listings, timed as a quick client sees them: curl reads them over TLS and throws them away.

Used by curves and peer. A client in Python takes longer to read a long listing than either server to tell it. The time
is from the request to the last byte, on a connection that stands (clients keep theirs); what came is counted once.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import tempfile
from pathlib import Path

from bench.apiserver import TOKEN

TIMES = 3
AGENT = "kybern-bench/1.0"  # for one called curl, kube-apiserver indents its JSON
JSON: tuple[str, ...] = ()
GZIP = ("-H", "Accept-Encoding: gzip")  # as client-go asks
PROTOBUF = ("-H", "Accept: application/vnd.kubernetes.protobuf")
GZIP_PROTOBUF = (*GZIP, *PROTOBUF)  # as the controllers and kubelets of upstream ask

_METADATA = b'"metadata":{"'
_UID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONTINUE = re.compile(rb'"continue":"([^"]+)"')


def milliseconds(port: int, target: str, least: int, asked: tuple[str, ...] = JSON) -> float:
    """The best of some times. Raises RuntimeError where fewer than `least` objects come."""
    _, answer = _get(port, target, asked)
    text = gzip.decompress(answer) if answer.startswith(b"\x1f\x8b") else answer
    # Every object has its own metadata; in protobuf it has no name, but a uid.
    got = len(_UID.findall(text)) if PROTOBUF[1] in asked else text.count(_METADATA)
    if got < least:
        raise RuntimeError(f"{target}: {got} of {least} objects in {len(text)} bytes")
    return min(_time(port, target, asked) for _ in range(TIMES))


def in_pages(port: int, path: str, limit: int, least: int) -> float:
    """Milliseconds for all of it in pages, one after the other."""
    total, got, token = 0.0, 0, b""
    while True:
        query = f"?limit={limit}" + (f"&continue={token.decode()}" if token else "")
        took, text = _get(port, path + query, GZIP)
        text = gzip.decompress(text) if text.startswith(b"\x1f\x8b") else text
        total += took
        got += text.count(_METADATA)
        found = _CONTINUE.search(text[:4096])
        if found is None:
            break
        token = found.group(1)
    if got < least:
        raise RuntimeError(f"{path}: {got} of {least} objects in pages")
    return total


def _time(port: int, target: str, asked: tuple[str, ...]) -> float:
    return _curl(port, target, asked, "/dev/null")


def _get(port: int, target: str, asked: tuple[str, ...]) -> tuple[float, bytes]:
    with tempfile.NamedTemporaryFile() as file:
        took = _curl(port, target, asked, file.name)
        return took, Path(file.name).read_bytes()


def _curl(port: int, target: str, asked: tuple[str, ...], into: str) -> float:
    """Milliseconds. Raises RuntimeError for an answer that is not 200."""
    command = ["curl", "-sk", "--http1.1", "-o", into, "-w", "%{http_code} %{time_pretransfer} %{time_total}"]
    command += ["-A", AGENT, "-H", f"Authorization: Bearer {TOKEN}", *asked, f"https://127.0.0.1:{port}{target}"]
    code, before, whole = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if code != "200":
        raise RuntimeError(f"{target}: {code}")
    return (float(whole) - float(before)) * 1000
