from __future__ import annotations

import hashlib
import io
import tarfile

import msgspec

from kybern.cli import archive


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


def an_image() -> archive.Image:
    return archive.Image(
        "localhost/a/b:1",
        {"bin/tool": (b"\x7fELF", 0o755)},
        {"bin/link": "tool"},
        {"tmp": 0o1777},
        entrypoint=("/bin/tool",),
    )


def test_every_blob_is_named_by_its_digest_and_the_manifest_names_them_all() -> None:
    files = members(archive.render(an_image()))
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    entry = msgspec.json.decode(files["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/a/b:1"
    manifest = msgspec.json.decode(files["blobs/sha256/" + entry["digest"].partition(":")[2]])
    for blob in (manifest["config"], *manifest["layers"]):
        assert len(files["blobs/sha256/" + blob["digest"].partition(":")[2]]) == blob["size"]


def test_the_layer_holds_files_links_and_directories_with_their_modes() -> None:
    files = members(archive.render(an_image()))
    layer = next(c for n, c in files.items() if n.startswith("blobs/") and not c.startswith(b"{"))
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = {m.name: m for m in tar.getmembers()}
    assert entries["bin/tool"].mode == 0o755 and entries["bin/link"].linkname == "tool"
    assert entries["tmp"].isdir() and entries["tmp"].mode == 0o1777
    names = list(entries)
    assert names.index("bin") < names.index("bin/tool")


def test_the_same_image_is_the_same_bytes() -> None:
    assert archive.render(an_image()) == archive.render(an_image())
