"""Paths inside volumes: found without following anybody's links out of it."""

import os

import pytest

from kybern.kubelet.volumes import subpath


def test_only_paths_below_the_volume_are_opened(tmp_path):
    volume = tmp_path / "v"
    (volume / "d").mkdir(parents=True)
    (volume / "d/f").write_text("inside")
    descriptor = subpath._open_inside(str(volume), str(volume / "d/f"))
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(volume / "d/f")
    os.close(descriptor)


def test_a_link_on_the_way_is_refused(tmp_path):
    volume = tmp_path / "v"
    volume.mkdir()
    (tmp_path / "secret").mkdir()
    (volume / "evil").symlink_to(tmp_path / "secret")
    with pytest.raises((ValueError, OSError)):
        subpath._open_inside(str(volume), str(volume / "evil"))


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../b"])
def test_paths_that_leave_the_volume_are_refused(tmp_path, path):
    with pytest.raises(ValueError, match="subPath"):
        subpath.prepare(str(tmp_path), path, tmp_path / "target")


def test_a_link_that_leads_out_is_refused(tmp_path):
    volume = tmp_path / "v"
    volume.mkdir()
    (volume / "out").symlink_to("/etc")
    with pytest.raises(ValueError, match="not inside the volume"):
        subpath.prepare(str(volume), "out/passwd", tmp_path / "target")


def test_missing_directories_get_the_permissions_of_the_volume(tmp_path):
    volume = tmp_path / "v"
    volume.mkdir()
    volume.chmod(0o751)
    subpath._make_directories(str(volume), str(volume / "a/b"))
    assert (volume / "a/b").is_dir()
    assert (volume / "a").stat().st_mode & 0o777 == 0o751
