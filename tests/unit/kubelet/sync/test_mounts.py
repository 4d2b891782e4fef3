"""What a container's mounts point to."""

import pytest

from kybern.api.core_v1 import Container, Pod, VolumeDevice, VolumeMount
from kybern.kubelet.cri.contract import Propagation
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.sync import mounts
from kybern.kubelet.volumes.contract import HostVolume

VOLUMES = {
    "v": HostVolume("v", "/host/v"),
    "ro": HostVolume("ro", "/host/ro", readonly=True),
    "img": HostVolume("img", "", image="sha256:x"),
    "raw": HostVolume("raw", "", device="/dev/sdx", readonly=True),
}


def build(tmp_path, *wanted, env=None, **fields):
    container = Container(name="c", volumeMounts=list(wanted), **fields)
    return mounts.build(Pod(), container, VOLUMES, env or {}, mounts.Place(tmp_path), 2)


def test_volumes_are_mounted_where_the_container_wants_them(tmp_path):
    found, _ = build(
        tmp_path,
        VolumeMount(name="v", mountPath="/a", mountPropagation="Bidirectional"),
        VolumeMount(name="v", mountPath="b", readOnly=True),
        VolumeMount(name="ro", mountPath="/c"),
        VolumeMount(name="img", mountPath="/d", subPath="x"),
    )
    by_path = {m.container_path: m for m in found}
    assert (by_path["/a"].host_path, by_path["/a"].readonly) == ("/host/v", False)
    assert by_path["/a"].propagation is Propagation.BIDIRECTIONAL
    assert by_path["/b"].readonly
    assert by_path["/c"].readonly
    assert (by_path["/d"].image, by_path["/d"].image_sub_path) == ("sha256:x", "x")


def test_hosts_and_last_words_are_added_unless_the_container_has_its_own(tmp_path):
    found, _ = build(tmp_path)
    assert [m.container_path for m in found] == ["/etc/hosts", "/dev/termination-log"]
    words = tmp_path / "containers/c/2"
    assert words.stat().st_mode & 0o777 == 0o666
    own, _ = build(
        tmp_path,
        VolumeMount(name="v", mountPath="/etc/hosts"),
        VolumeMount(name="v", mountPath="/words"),
        terminationMessagePath="/words",
    )
    assert [m.host_path for m in own] == ["/host/v", "/host/v"]


def test_raw_volumes_become_devices(tmp_path):
    _, devices = build(tmp_path, volumeDevices=[VolumeDevice(name="raw", devicePath="/dev/x")])
    assert [(d.container_path, d.host_path, d.permissions) for d in devices] == [("/dev/x", "/dev/sdx", "r")]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (VolumeMount(name="nope", mountPath="/x"), "cannot find volume"),
        (VolumeMount(name="v", mountPath="/x", subPathExpr="$(NOPE)"), "missing value for 'NOPE'"),
        (VolumeMount(name="v", mountPath="/x", subPathExpr="$(ABS)"), "must not be an absolute path"),
        (VolumeMount(name="v", mountPath="/x", subPathExpr="a/$(UP)"), "must not contain '..'"),
    ],
)
def test_what_cannot_be_mounted_is_a_config_error(tmp_path, mount, message):
    with pytest.raises(StartFailed) as failed:
        build(tmp_path, mount, env={"ABS": "/etc", "UP": ".."})
    assert failed.value.reason is Reason.CONFIG
    assert message in failed.value.message
