"""Taking away what the portmap plugin made, and nothing else."""

from kybern.kubelet.cni import port_maps

COMMENT = "CNI portfwd requiring masquerade"
LISTING = """\
-P PREROUTING ACCEPT
-P POSTROUTING ACCEPT
-N CNI-DN-9c22ee2dcc39957b4416a
-N CNI-HOSTPORT-DNAT
-N CNI-HOSTPORT-MASQ
-N CNI-HOSTPORT-SETMARK
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"kybern\\" id: \\"x\\"" -j CNI-DN-9c22ee2dcc39957b4416a
"""


def test_jumps_go_first_then_what_they_led_to() -> None:
    commands = port_maps.plan_removal(LISTING)
    assert commands[:2] == [
        ["-D", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "CNI-HOSTPORT-DNAT"],
        ["-D", "POSTROUTING", "-m", "comment", "--comment", COMMENT, "-j", "CNI-HOSTPORT-MASQ"],
    ]
    assert [c for c in commands if c[0] == "-X"] == [
        ["-X", name]
        for name in ("CNI-DN-9c22ee2dcc39957b4416a", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK")
    ]
    assert not any("DOCKER" in command for command in commands)


def test_nothing_there_needs_nothing() -> None:
    assert port_maps.plan_removal("-P PREROUTING ACCEPT\n") == []
    assert not port_maps.has_rules("-P PREROUTING ACCEPT\n")
    assert port_maps.has_rules(LISTING)
