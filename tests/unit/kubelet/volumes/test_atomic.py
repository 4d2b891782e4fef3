"""Files that change all at once."""

import datetime
import os
import stat

import pytest

from kybern.kubelet.volumes import atomic
from kybern.kubelet.volumes.contract import File

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=datetime.UTC)


def write(where, own=None, **files):
    payload = {name.replace("__", "/"): File(data.encode(), 0o640) for name, data in files.items()}
    return atomic.write(where, payload, NOW, own)


def test_files_are_links_into_a_directory_that_is_swapped(tmp_path):
    assert write(tmp_path, a="1", sub__b="2")
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "sub/b").read_text() == "2"
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "sub") == "..data/sub"
    assert os.readlink(tmp_path / "..data").startswith("..2026_01_02_03_04_05.")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_an_update_replaces_adds_and_removes_and_leaves_no_old_version(tmp_path):
    write(tmp_path, a="1", b="2")
    assert write(tmp_path, a="changed", c="3")
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_text() == "changed"
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2026")]) == 1


def test_nothing_is_written_when_nothing_changed(tmp_path):
    write(tmp_path, a="1")
    before = os.readlink(tmp_path / "..data")
    assert not write(tmp_path, a="1")
    assert os.readlink(tmp_path / "..data") == before
    (tmp_path / "a").unlink()
    assert not write(tmp_path, a="1")
    assert (tmp_path / "a").read_text() == "1"


def test_an_empty_volume_is_a_version_too(tmp_path):
    assert write(tmp_path)
    assert (tmp_path / "..data").is_dir()
    write(tmp_path, a="1")
    write(tmp_path)
    assert not os.path.lexists(tmp_path / "a")


def test_a_failure_leaves_the_old_version_in_place(tmp_path):
    write(tmp_path, a="1")

    def refuse(_):
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write(tmp_path, own=refuse, a="2")
    assert (tmp_path / "a").read_text() == "1"
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2026")]) == 1


def test_ownership_is_set_before_anyone_can_see_the_files(tmp_path):
    seen = []
    write(tmp_path, own=lambda fresh: seen.append((fresh / "a").exists() and not (tmp_path / "a").exists()), a="1")
    assert seen == [True]


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "..a", "a" * 256])
def test_paths_that_could_leave_the_volume_are_refused(tmp_path, path):
    with pytest.raises(ValueError, match="invalid path"):
        atomic.write(tmp_path, {path: File(b"", 0o644)}, NOW)


def test_dots_inside_names_are_fine(tmp_path):
    atomic.write(tmp_path, {"a..b": File(b"1", 0o644), ".hidden": File(b"2", 0o644)}, NOW)
    assert (tmp_path / "a..b").read_text() == "1"
    assert (tmp_path / ".hidden").read_text() == "2"
