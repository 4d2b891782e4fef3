"""Static pods."""

import pytest

from kybern.kubelet import podkeys
from kybern.kubelet.cri import labels
from kybern.kubelet.sources import files
from kybern.testing import clock as virtual

MANIFEST = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {since: 2026-01-02}}
spec:
  containers:
  - {name: c, image: "app:1", args: ["-p", "80"]}
"""


def test_a_manifest_becomes_a_pod_of_this_node():
    pod = files.parse(MANIFEST, "/m/web.yaml", "n1")
    assert (pod.metadata.name, pod.metadata.namespace, pod.spec.nodeName) == ("web-n1", "default", "n1")
    assert pod.metadata.annotations[labels.CONFIG_HASH] == pod.metadata.uid
    assert podkeys.is_static(pod)
    assert pod.spec.restartPolicy == "Always"
    assert pod.metadata.labels == {"since": "2026-01-02"}
    assert files.parse(MANIFEST + b"#", "/m/web.yaml", "n1").metadata.uid != pod.metadata.uid


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"kind: Service", b"{", b"kind: Pod\nmetadata: {}", b"kind: Pod\nmetadata: {name: x}\nspec: {}"],
)
def test_what_is_no_pod_is_refused(text):
    with pytest.raises(files.BadManifest):
        files.parse(text, "/m/x.yaml", "n1")


def test_the_folder_is_followed(tmp_path):
    async def main(clock):
        updated, removed = [], []
        source = files.StaticPods(
            tmp_path, "n1", clock, lambda p: updated.append(p.metadata.uid), lambda p: removed.append(p.metadata.uid)
        )
        (tmp_path / "a.yaml").write_bytes(MANIFEST)
        (tmp_path / ".hidden").write_bytes(MANIFEST)
        (tmp_path / "broken.yaml").write_bytes(b"{")
        await source.scan()
        await source.scan()
        assert len(updated) == 1
        (tmp_path / "a.yaml").write_bytes(MANIFEST + b"# changed\n")
        await source.scan()
        assert len(updated) == 2
        assert removed == updated[:1]
        (tmp_path / "a.yaml").unlink()
        await source.scan()
        assert removed == updated
        assert source.pods == []

    virtual.run(main)
