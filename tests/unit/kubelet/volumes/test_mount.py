"""Reading what is mounted."""

from kybern.kubelet.volumes import mount

TEXT = (
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "30 22 0:25 / /a\\040b rw,nosuid - tmpfs tmpfs rw,size=1024k\n"
    "31 30 0:26 / /a\\040b/c rw master:1 propagate_from:2 - tmpfs none rw\n"
    "broken\n"
)


def test_mount_points_are_parsed_with_their_escapes():
    points = mount.parse_mountinfo(TEXT)
    assert [(p.path, p.kind) for p in points] == [("/", "ext4"), ("/a b", "tmpfs"), ("/a b/c", "tmpfs")]
    assert points[1].options == "rw,size=1024k"
    assert [p.is_shared for p in points] == [True, False, False]


def test_the_root_is_always_mounted():
    assert mount.is_mounted("/")
    assert mount.mounts_under("/no/such/place") == []
