"""hostPath types."""

import socket
import stat

from kybern.kubelet.volumes import host_path


def test_each_type_is_checked(tmp_path):
    (tmp_path / "file").write_text("")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "sock"))
    good = {"Directory": "", "File": "file", "Socket": "sock", "": "anything"}
    for kind, name in good.items():
        assert host_path.check(str(tmp_path / name), kind) == ""
    assert host_path.check("/dev/null", "CharDevice") == ""
    for kind, name in {"Directory": "file", "File": "", "Socket": "file", "BlockDevice": "file"}.items():
        assert "hostPath type check failed" in host_path.check(str(tmp_path / name), kind)
    assert "is not a directory" in host_path.check(str(tmp_path / "missing"), "Directory")
    listener.close()


def test_what_is_missing_is_created_where_the_type_says_so(tmp_path):
    assert host_path.check(str(tmp_path / "a/b"), "DirectoryOrCreate") == ""
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755
    assert host_path.check(str(tmp_path / "f"), "FileOrCreate") == ""
    assert (tmp_path / "f").is_file()
    assert "cannot be created" in host_path.check(str(tmp_path / "no/f"), "FileOrCreate")
    assert "invalid volume type" in host_path.check(str(tmp_path), "Nonsense")
