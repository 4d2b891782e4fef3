"""What the files of API volumes hold."""

import pytest

from kybern.api.certificates_v1beta1 import ClusterTrustBundle, ClusterTrustBundleSpec
from kybern.api.core_v1 import (
    ClusterTrustBundleProjection,
    ConfigMap,
    Container,
    DownwardAPIVolumeFile,
    KeyToPath,
    ObjectFieldSelector,
    Pod,
    PodSpec,
    ResourceFieldSelector,
    Secret,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.kubelet.volumes import payload
from kybern.kubelet.volumes.contract import File, NodeView
from kybern.machinery import pem

MAP = ConfigMap(data={"a": "1"}, binaryData={"b": b"\x00\xff"})
NODE = NodeView(
    config_map=lambda *_: None, secret=lambda *_: None, tokens=None, node_name="n", node_ips=("192.0.2.1",),
    allocatable={"cpu": "2"},
)  # fmt: skip


def test_without_items_every_key_is_a_file():
    assert payload.of_config_map(MAP, [], 0o600, False) == {"a": File(b"1", 0o600), "b": File(b"\x00\xff", 0o600)}


def test_items_choose_name_and_mode():
    items = [KeyToPath(key="a", path="x/y", mode=0o400), KeyToPath(key="b", path="z")]
    assert payload.of_config_map(MAP, items, 0o644, False) == {
        "x/y": File(b"1", 0o400),
        "z": File(b"\x00\xff", 0o644),
    }


def test_a_missing_key_is_an_error_unless_optional():
    items = [KeyToPath(key="nope", path="x")]
    with pytest.raises(ValueError, match="references non-existent secret key: nope"):
        payload.of_secret(Secret(data={"a": b"1"}), items, 0o644, False)
    assert payload.of_secret(Secret(data={"a": b"1"}), items, 0o644, True) == {}


def test_what_does_not_exist_is_empty():
    assert payload.of_secret(None, [KeyToPath(key="a", path="x")], 0o644, True) == {}


def test_the_downward_api_writes_fields_and_resources():
    pod = Pod(
        metadata=ObjectMeta(name="p", labels={"b": "2", "a": "1"}), spec=PodSpec(containers=[Container(name="c")])
    )
    items = [
        DownwardAPIVolumeFile(path="labels", fieldRef=ObjectFieldSelector(fieldPath="metadata.labels")),
        DownwardAPIVolumeFile(
            path="cpu", mode=0o400, resourceFieldRef=ResourceFieldSelector(containerName="c", resource="limits.cpu")
        ),
    ]
    assert payload.of_downward_api(pod, items, 0o644, NODE, ()) == {
        "labels": File(b'a="1"\nb="2"', 0o644),
        "cpu": File(b"2", 0o400),
    }
    wrong = [DownwardAPIVolumeFile(path="x", resourceFieldRef=ResourceFieldSelector(containerName="d", resource="a"))]
    with pytest.raises(ValueError, match="container d not found"):
        payload.of_downward_api(pod, wrong, 0o644, NODE, ())


def pem_of(*texts):
    return "".join(pem.render(pem.Block("CERTIFICATE", text)).decode() for text in texts)


def bundle(text, **labels):
    return ClusterTrustBundle(metadata=ObjectMeta(labels=labels), spec=ClusterTrustBundleSpec(trustBundle=text))


BUNDLES = [bundle("text\n" + pem_of(b"b", b"a"), use="tls"), bundle(pem_of(b"c" * 100, b"a"), use="other")]


@pytest.mark.parametrize(
    ("selector", "anchors"),
    [
        (LabelSelector(), (b"a", b"b", b"c" * 100)),
        (LabelSelector(matchLabels={"use": "tls"}), (b"a", b"b")),
    ],
)
def test_chosen_bundles_are_one_file_with_each_authority_once(selector, anchors):
    wanted = ClusterTrustBundleProjection(signerName="example.com/s", labelSelector=selector, path="ca.pem")
    assert payload.of_trust_bundles(BUNDLES, wanted, 0o644) == {"ca.pem": File(pem_of(*anchors).encode(), 0o644)}


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        ([], {"name": "n"}, 'clustertrustbundle "n" not found'),
        (BUNDLES, {"signerName": "example.com/s"}, "combination of signerName and labelSelector matched zero Cluster"),
    ],
)
def test_bundles_that_must_be_there_are_missed(found, wanted, message):
    projection = ClusterTrustBundleProjection(path="ca.pem", **wanted)
    with pytest.raises(ValueError, match=message):
        payload.of_trust_bundles(found, projection, 0o644)
    projection.optional = True
    assert payload.of_trust_bundles(found, projection, 0o644) == {"ca.pem": File(b"", 0o644)}
