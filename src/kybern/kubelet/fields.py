"""The downward API: fields of a pod as text, for environment variables and for files.

Pure. Source: "Downward API: available fields" in the Kubernetes documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kybern.api.core_v1 import Pod

_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]", re.DOTALL)


def field_text(pod: Pod, path: str, pod_ips: Sequence[str], host_ips: Sequence[str], node_name: str) -> str:
    """The value at `path`. Raises ValueError for a path that is not supported."""
    meta = pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        where, key = subscript.groups()
        return (meta.labels if where == "metadata.labels" else meta.annotations).get(key, "")
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "metadata.labels":
            return format_map(meta.labels)
        case "metadata.annotations":
            return format_map(meta.annotations)
        case "spec.nodeName":
            return pod.spec.nodeName or node_name
        case "spec.serviceAccountName":
            return pod.spec.serviceAccountName or ""
        case "spec.restartPolicy":
            return pod.spec.restartPolicy or ""
        case "status.hostIP":
            return host_ips[0] if host_ips else ""
        case "status.hostIPs":
            return ",".join(host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    raise ValueError(f"unsupported fieldPath: {path}")


def format_map(values: Mapping[str, str]) -> str:
    """One `key="escaped value"` a line, in order of keys."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    '"': '\\"', "\\": "\\\\",
}  # fmt: skip


def _quote(text: str) -> str:
    """As a Go string literal: what readers of these files know."""
    return '"' + "".join(_ESCAPES.get(c) or _printable(c) for c in text) + '"'


def _printable(c: str) -> str:
    if c.isprintable():
        return c
    code = ord(c)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
