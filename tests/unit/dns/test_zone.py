"""The zone's answers, question by question, as the specification has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api.core_v1 import Service
from kybern.dns import zone
from kybern.dns.zone import Key, Kind, Outcome, Record, Srv, Zone
from kybern.testing.services import endpoint, endpoint_slice, port, service


def make(*objects: object, namespaces: tuple[str, ...] = ("default", "other")) -> Zone:
    made = Zone("cluster.local", "10.96.0.10")
    for name in namespaces:
        made.set_namespace(name, True)
    for obj in objects:
        put(made, obj)
    return made


def put(made: Zone, obj: object) -> None:
    metadata = obj.metadata  # type: ignore[attr-defined]
    if isinstance(obj, Service):
        made.set_service(Key(metadata.namespace, metadata.name), obj)
    else:
        made.set_slice(metadata.namespace, metadata.name, obj)  # type: ignore[arg-type]


def ask(made: Zone, name: str, kind: Kind = Kind.A) -> list[object] | str:
    answer = made.lookup(zone.parse_name(name), kind)
    return [r.data for r in answer.records] if answer.outcome is Outcome.FOUND else answer.outcome.value


def at(*labels: str) -> zone.Name:
    return (*labels, "default", "svc", "cluster", "local")


NO_NAME, NOT_OURS = Outcome.NO_NAME.value, Outcome.NOT_OURS.value
WEB = service("web", "10.96.0.5", port(80, name="http"), port(53, "UDP", "dns"))
PORTS = [port(8080, name="http"), port(53, "UDP", "dns")]
HEADLESS = service("db", "None", port(80, name="http"), port(53, "UDP", "dns"))
DB = endpoint_slice("db", PORTS, endpoint("10.244.0.2", hostname="db-0"), endpoint("10.244.0.3"))


def test_a_cluster_ip_service_has_its_address() -> None:
    made = make(WEB)
    assert ask(made, "web.default.svc.cluster.local") == ["10.96.0.5"]
    assert ask(made, "web.default.svc.cluster.local", Kind.AAAA) == []
    assert ask(made, "web.other.svc.cluster.local") == NO_NAME
    assert ask(made, "nothing.default.svc.cluster.local") == NO_NAME


def test_a_dual_stack_service_has_both_addresses() -> None:
    made = make(service("web", "10.96.0.5", port(80), clusterIPs=["10.96.0.5", "fd00::5"]))
    assert ask(made, "web.default.svc.cluster.local", Kind.AAAA) == ["fd00::5"]
    assert ask(made, "web.default.svc.cluster.local", Kind.ANY) == ["10.96.0.5", "fd00::5"]


def test_named_ports_have_srv_records_with_the_targets_address() -> None:
    made = make(WEB)
    answer = made.lookup(zone.parse_name("_http._tcp.web.default.svc.cluster.local"), Kind.SRV)
    assert [r.data for r in answer.records] == [Srv(100, 80, at("web"))]
    assert answer.additional == (Record(Kind.A, "10.96.0.5", at("web")),)
    assert ask(made, "_dns._udp.web.default.svc.cluster.local", Kind.SRV) == [Srv(100, 53, at("web"))]
    assert ask(made, "_http._tcp.web.default.svc.cluster.local", Kind.A) == []
    assert ask(made, "_http._udp.web.default.svc.cluster.local", Kind.SRV) == NO_NAME
    assert ask(made, "_http._icmp.web.default.svc.cluster.local", Kind.SRV) == NO_NAME
    assert ask(made, "_tcp.web.default.svc.cluster.local", Kind.SRV) == []
    assert ask(made, "_sctp.web.default.svc.cluster.local", Kind.SRV) == NO_NAME
    assert ask(made, "web.default.svc.cluster.local", Kind.SRV) == [Srv(100, 80, at("web")), Srv(100, 53, at("web"))]


def test_ports_without_name_have_no_srv_name_of_their_own() -> None:
    made = make(service("web", "10.96.0.5", port(80)))
    assert ask(made, "_._tcp.web.default.svc.cluster.local", Kind.SRV) == NO_NAME
    assert ask(made, "web.default.svc.cluster.local", Kind.SRV) == [Srv(100, 80, at("web"))]


def test_a_headless_service_has_the_addresses_of_its_ready_endpoints() -> None:
    made = make(HEADLESS, DB)
    assert ask(made, "db.default.svc.cluster.local") == ["10.244.0.2", "10.244.0.3"]
    put(made, endpoint_slice("db", PORTS, endpoint("10.244.0.2", ready=False), endpoint("10.244.0.3", ready=True)))
    assert ask(made, "db.default.svc.cluster.local") == ["10.244.0.3"]
    put(made, service("db", "None", port(80, name="http"), publishNotReadyAddresses=True))
    assert ask(made, "db.default.svc.cluster.local") == ["10.244.0.2", "10.244.0.3"]
    put(made, endpoint_slice("db", PORTS))
    assert ask(made, "db.default.svc.cluster.local") == []


def test_endpoints_of_a_headless_service_have_names() -> None:
    made = make(HEADLESS, DB)
    assert ask(made, "db-0.db.default.svc.cluster.local") == ["10.244.0.2"]
    assert ask(made, "10-244-0-3.db.default.svc.cluster.local") == ["10.244.0.3"]
    assert ask(made, "10-244-0-2.db.default.svc.cluster.local") == NO_NAME
    assert ask(made, "db-1.db.default.svc.cluster.local") == NO_NAME
    assert ask(made, "x.db-0.db.default.svc.cluster.local") == NO_NAME
    assert ask(made, "db-0.db.default.svc.cluster.local", Kind.AAAA) == []


def test_endpoints_of_other_services_have_none() -> None:
    made = make(WEB, endpoint_slice("web", PORTS, endpoint("10.244.0.2", hostname="web-0")))
    assert ask(made, "web-0.web.default.svc.cluster.local") == NO_NAME


def test_srv_records_of_a_headless_service_name_its_endpoints() -> None:
    made = make(HEADLESS, DB)
    answer = made.lookup(zone.parse_name("_http._tcp.db.default.svc.cluster.local"), Kind.SRV)
    assert {r.data for r in answer.records} == {
        Srv(50, 8080, at("db-0", "db")),
        Srv(50, 8080, at("10-244-0-3", "db")),
    }
    assert set(answer.additional) == {
        Record(Kind.A, "10.244.0.2", at("db-0", "db")),
        Record(Kind.A, "10.244.0.3", at("10-244-0-3", "db")),
    }


def test_ipv6_endpoints_are_named_by_dashes() -> None:
    piece = endpoint_slice("db", PORTS, endpoint("fd00::7"))
    piece.addressType = "IPv6"
    made = make(HEADLESS, piece)
    assert ask(made, "fd00--7.db.default.svc.cluster.local", Kind.AAAA) == ["fd00::7"]


def test_an_external_name_is_an_alias() -> None:
    made = make(service("ext", "", type="ExternalName", externalName="Foo.Example.com."))
    answer = made.lookup(zone.parse_name("ext.default.svc.cluster.local"), Kind.A)
    assert answer.records == (Record(Kind.CNAME, ("foo", "example", "com")),)
    assert answer.chase == "foo.example.com"
    assert made.lookup(zone.parse_name("ext.default.svc.cluster.local"), Kind.CNAME).chase == ""
    assert ask(made, "x.ext.default.svc.cluster.local") == NO_NAME
    odd = make(service("ext", "", type="ExternalName", externalName="a" * 70))
    assert ask(odd, "ext.default.svc.cluster.local") == []


def test_pods_are_named_by_their_address() -> None:
    made = make()
    assert ask(made, "10-1-2-3.default.pod.cluster.local") == ["10.1.2.3"]
    assert ask(made, "fd00--3.default.pod.cluster.local", Kind.AAAA) == ["fd00::3"]
    assert ask(made, "10-1-2-3.default.pod.cluster.local", Kind.AAAA) == []
    assert ask(made, "10-1-2-3.unknown.pod.cluster.local") == NO_NAME
    assert ask(made, "10-1-2-300.default.pod.cluster.local") == NO_NAME
    assert ask(made, "10.1.2.3.default.pod.cluster.local") == NO_NAME


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("cluster.local", True),
        ("svc.cluster.local", True),
        ("pod.cluster.local", True),
        ("dns.cluster.local", True),
        ("default.svc.cluster.local", True),
        ("default.pod.cluster.local", True),
        ("unknown.svc.cluster.local", False),
        ("x.cluster.local", False),
        ("a.b.cluster.local", False),
    ],
)
def test_names_with_names_below_exist_without_data(name: str, known: bool) -> None:
    assert ask(make(WEB), name) == ([] if known else NO_NAME)


def test_the_domain_tells_its_server_and_version() -> None:
    made = make()
    assert ask(made, "dns-version.cluster.local", Kind.TXT) == ["1.1.0"]
    assert ask(made, "cluster.local", Kind.NS) == [("ns", "dns", "cluster", "local")]
    assert ask(made, "ns.dns.cluster.local") == ["10.96.0.10"]


def test_addresses_have_names() -> None:
    made = make(WEB, HEADLESS, DB)
    assert ask(made, "5.0.96.10.in-addr.arpa", Kind.PTR) == [at("web")]
    assert ask(made, "2.0.244.10.in-addr.arpa", Kind.PTR) == [at("db-0", "db")]
    assert ask(made, "3.0.244.10.in-addr.arpa", Kind.PTR) == [at("10-244-0-3", "db")]
    assert ask(made, "5.0.96.10.in-addr.arpa", Kind.A) == []
    assert ask(made, "9.9.9.9.in-addr.arpa", Kind.PTR) == NOT_OURS
    assert ask(made, "0.96.10.in-addr.arpa", Kind.PTR) == NOT_OURS
    six = make(service("web", "fd00::5", port(80)))
    assert ask(six, ".".join("5" + "0" * 27 + "00df") + ".ip6.arpa", Kind.PTR) == [at("web")]


def test_other_domains_are_not_ours() -> None:
    made = make()
    for name in ("example.com", "local", "cluster.local.example.com", "xcluster.local", ""):
        assert ask(made, name) == NOT_OURS


def test_what_is_deleted_is_forgotten() -> None:
    made = make(WEB, HEADLESS, DB)
    version = made.version
    made.set_service(Key("default", "web"), None)
    made.set_slice("default", "db-x", None)
    made.set_namespace("other", False)
    assert made.version > version
    assert ask(made, "web.default.svc.cluster.local") == NO_NAME
    assert ask(made, "5.0.96.10.in-addr.arpa", Kind.PTR) == NOT_OURS
    assert ask(made, "2.0.244.10.in-addr.arpa", Kind.PTR) == NOT_OURS
    assert ask(made, "other.svc.cluster.local") == NO_NAME
    assert made._by_address == {}
    assert [made._slices, made._owners] == [{}, {}]


def test_a_service_that_becomes_external_changes_its_records() -> None:
    made = make(WEB)
    put(made, service("web", "", type="ExternalName", externalName="example.com"))
    assert ask(made, "5.0.96.10.in-addr.arpa", Kind.PTR) == NOT_OURS
    put(made, WEB)
    assert ask(made, "5.0.96.10.in-addr.arpa", Kind.PTR) == [at("web")]


labels = st.one_of(
    st.sampled_from(
        ["svc", "pod", "default", "web", "db", "_tcp", "_http", "cluster", "local", "arpa", "in-addr", "-"]
    ),
    st.text(max_size=5),
)


@given(st.lists(labels, max_size=8), st.integers(0, 300))
def test_any_name_and_kind_has_an_answer(name: list[str], kind: int) -> None:
    made = make(WEB, HEADLESS, DB)
    for asked in (tuple(name), (*name, "cluster", "local"), (*name, "in-addr", "arpa"), (*name, "ip6", "arpa")):
        made.lookup(asked, kind)
