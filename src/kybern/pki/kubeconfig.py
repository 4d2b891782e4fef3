"""Kubeconfig files with one cluster, one user and everything embedded. Read by client/kubeconfig and kubectl."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kybern.pki import files

CLUSTER = "kybern"


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """What one of our kubeconfigs holds (PEM)."""

    server: str
    ca: bytes
    certificate: bytes
    key: bytes
    user: str


def render(config: Kubeconfig) -> bytes:
    context = f"{config.user}@{CLUSTER}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CLUSTER, "cluster": {"certificate-authority-data": _encode(config.ca), "server": config.server}}
        ],
        "contexts": [{"name": context, "context": {"cluster": CLUSTER, "user": config.user}}],
        "current-context": context,
        "preferences": {},
        "users": [
            {
                "name": config.user,
                "user": {
                    "client-certificate-data": _encode(config.certificate),
                    "client-key-data": _encode(config.key),
                },
            }
        ],
    }
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False).encode()


def parse(content: bytes) -> Kubeconfig:
    """What `render` wrote. Raises ValueError for anything else."""
    try:
        document: Any = yaml.load(content, Loader=yaml.CSafeLoader)
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]
        credentials = user["user"]
        return Kubeconfig(
            server=cluster["server"],
            ca=base64.b64decode(cluster["certificate-authority-data"], validate=True),
            certificate=base64.b64decode(credentials["client-certificate-data"], validate=True),
            key=base64.b64decode(credentials["client-key-data"], validate=True),
            user=user["name"],
        )
    except (yaml.YAMLError, KeyError, IndexError, TypeError, binascii.Error) as error:
        raise ValueError(f"not a kubeconfig of ours: {error}") from None


def write_kubeconfig(path: Path, server: str, ca: bytes, cert: bytes, key: bytes, user: str) -> None:
    """Write a kubeconfig readable by its owner only. `ca`, `cert` and `key` are PEM; replaces atomically."""
    files.write(path, render(Kubeconfig(server, ca, cert, key, user)), files.SECRET)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
