"""Build small container images as OCI archives, without a builder or a registry.

Used by up (pause and demo images from busybox-static). Bytes depend on the content only, not on time.
"""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Image:
    """What goes into an image."""

    reference: str  # full, "localhost/kybern/pause:1"
    files: Mapping[str, tuple[bytes, int]]  # path without leading slash -> (content, mode)
    links: Mapping[str, str] = field(default_factory=dict)  # symbolic: path -> target
    directories: Mapping[str, int] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Sequence[str] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""
    ports: Sequence[str] = ()  # "8080/tcp"


def render(image: Image) -> bytes:
    """The image as an OCI archive that `ctr images import` takes."""
    layer = _layer(image)
    digest = _digest(layer)
    config = msgspec.json.encode(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint) or None,
                "Cmd": list(image.command) or None,
                "Env": list(image.environment),
                "User": image.user,
                "ExposedPorts": {port: {} for port in image.ports},
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": len(layer)}],
        }
    )
    index = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": _MANIFEST,
                    "digest": _digest(manifest),
                    "size": len(manifest),
                    "annotations": {
                        "io.containerd.image.name": image.reference,
                        "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
                    },
                }
            ],
        }
    )
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    for blob in (layer, config, manifest):
        files[f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}"] = blob
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name, content, 0o644)
    return output.getvalue()


def _layer(image: Image) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        parents = {str(p) for name in [*image.files, *image.links] for p in Path(name).parents if str(p) != "."}
        for name in sorted(parents | set(image.directories)):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            entry.mode = image.directories.get(name, 0o755)
            archive.addfile(entry)
        for name, (content, mode) in sorted(image.files.items()):
            _add(archive, name, content, mode)
        for name, target in sorted(image.links.items()):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            entry.mode = 0o777
            archive.addfile(entry)
    return output.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


PAUSE = "localhost/kybern/pause:1"
DEMO = "localhost/kybern/demo:1"
BUSYBOX = "localhost/kybern/busybox:1"

# Sleeps, reaps the orphans of a shared process namespace (wait takes any child), ends on SIGTERM.
_PAUSE_SCRIPT = b"""#!/bin/busybox sh
trap 'exit 0' TERM INT
while :; do
    /bin/busybox sleep 2147483647 &
    wait $!
done
"""

# Says who answers, and what the mounted ConfigMap holds.
_DEMO_PAGE = b"""#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
cat /config/greeting 2>/dev/null || echo 'Hello'
echo "served by $(hostname)"
"""


def _busybox() -> tuple[dict[str, tuple[bytes, int]], dict[str, str]]:
    """/bin/busybox and a link for each of its applets."""
    binary = Path("/bin/busybox").read_bytes()
    shown = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    applets = [name for name in shown.stdout.split() if name != "busybox"]
    return {"bin/busybox": (binary, 0o755)}, {f"bin/{name}": "busybox" for name in applets}


def _root_files() -> dict[str, tuple[bytes, int]]:
    return {
        "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644),
        "etc/group": (b"root:x:0:\nnogroup:x:65534:\n", 0o644),
        "etc/nsswitch.conf": (b"hosts: files dns\n", 0o644),
    }


_DIRECTORIES = {"tmp": 0o1777, "root": 0o700, "var": 0o755, "var/run": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755}


def pause() -> Image:
    """The container that holds a pod's namespaces."""
    files, _ = _busybox()
    files["pause"] = (_PAUSE_SCRIPT, 0o755)
    return Image(PAUSE, files, directories=_DIRECTORIES, entrypoint=("/pause",))


def busybox() -> Image:
    """A shell and small tools."""
    files, links = _busybox()
    return Image(BUSYBOX, {**files, **_root_files()}, links, _DIRECTORIES, command=("sh",))


def demo() -> Image:
    """A web server on port 8080 that says which pod answers."""
    files, links = _busybox()
    files.update(_root_files())
    files["www/cgi-bin/index.cgi"] = (_DEMO_PAGE, 0o755)
    files["www/healthz"] = (b"ok\n", 0o644)
    return Image(
        DEMO,
        files,
        links,
        _DIRECTORIES,
        entrypoint=("/bin/httpd", "-f", "-p", "8080", "-h", "/www"),
        ports=("8080/tcp",),
    )
