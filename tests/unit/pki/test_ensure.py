from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kybern import pki
from kybern.pki import certificates, kubeconfig

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CLUSTER = pki.Cluster(nodes={"node-1": ["10.0.0.5"]})


class Still:
    """A clock that stands at one moment."""

    def __init__(self, moment: datetime.datetime = START) -> None:
        self.moment = moment

    def now(self) -> datetime.datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


def ensure(path: Path, moment: datetime.datetime = START, cluster: pki.Cluster = CLUSTER, **options: object) -> pki.Pki:
    chosen = {"names": ["myhost"], "addresses": ["192.0.2.7"], **options}
    return pki.ensure(path, clock=Still(moment), cluster=cluster, **chosen)  # type: ignore[arg-type]


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_everything_a_cluster_needs_is_made(tmp_path: Path) -> None:
    ensure(tmp_path)
    pairs = ("ca", "front-proxy-ca", "apiserver", "apiserver-kubelet-client", "front-proxy-client", "kubelet-node-1")
    assert set(contents(tmp_path)) == {
        *(f"pki/{n}.{e}" for n in pairs for e in ("crt", "key")),
        *("pki/sa.key", "pki/sa.pub", "pki/encryption.yaml"),
        *(f"kubeconfig/{n}.conf" for n in ("admin", "controller-manager", "scheduler", "proxy", "dns")),
        "kubeconfig/kubelet-node-1.conf",
    }


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = ensure(tmp_path)
    before = contents(tmp_path)
    second = ensure(tmp_path)
    assert first.renewed
    assert second.renewed == ()
    assert contents(tmp_path) == before


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "pki/ca.key").chmod(0o644)
    (tmp_path / "pki/encryption.yaml").chmod(0o644)
    ensure(tmp_path)
    secret = [*tmp_path.rglob("*.key"), *tmp_path.rglob("*.conf"), *tmp_path.rglob("*.yaml")]
    assert {p.stat().st_mode & 0o777 for p in secret} == {0o600}
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "pki", tmp_path / "kubeconfig")} == {0o700}


def test_the_serving_certificate_names_service_host_and_addresses(tmp_path: Path) -> None:
    made = certificate(ensure(tmp_path).certificate("apiserver"))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        "localhost", "myhost",
    }  # fmt: skip
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"10.96.0.1", "127.0.0.1", "::1", "192.0.2.7"}
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    ("name", "user", "organizations"),
    [
        ("admin", "kubernetes-admin", ["system:masters"]),
        ("controller-manager", "system:kube-controller-manager", []),
        ("scheduler", "system:kube-scheduler", []),
        ("proxy", "system:kube-proxy", []),
        ("dns", "system:kybern-dns", []),
        ("kubelet-node-1", "system:node:node-1", ["system:nodes"]),
    ],
)
def test_a_kubeconfig_names_its_user(tmp_path: Path, name: str, user: str, organizations: list[str]) -> None:
    found = kubeconfig.parse(ensure(tmp_path).kubeconfig(name).read_bytes())
    subject = x509.load_pem_x509_certificate(found.certificate).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == organizations
    assert (found.user, found.server) == (user, "https://127.0.0.1:6443")
    assert found.ca == (tmp_path / "pki/ca.crt").read_bytes()


def test_a_node_may_reach_the_server_by_its_own_url(tmp_path: Path) -> None:
    cluster = pki.Cluster(nodes={"a": [], "b": []}, node_servers={"b": "https://10.250.0.1:6443"})
    made = ensure(tmp_path, cluster=cluster)
    servers = [kubeconfig.parse(made.kubeconfig(f"kubelet-{n}").read_bytes()).server for n in "ab"]
    assert servers == ["https://127.0.0.1:6443", "https://10.250.0.1:6443"]


def test_a_certificate_with_a_third_of_its_life_left_is_kept_and_later_renewed(tmp_path: Path) -> None:
    ensure(tmp_path)
    assert ensure(tmp_path, START + certificates.LEAF_LIFE * 0.66).renewed == ()
    later = ensure(tmp_path, START + certificates.LEAF_LIFE * 0.67)
    assert "apiserver.crt" in later.renewed
    assert "admin.conf" in later.renewed
    assert "ca.crt" not in later.renewed


def test_an_ageing_authority_keeps_its_key_so_that_its_certificates_stay_good(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    leaf = certificate(made.certificate("apiserver"))
    key = made.key("ca").read_bytes()
    renewed = ensure(tmp_path, START + certificates.CA_LIFE * 0.7)
    assert "ca.crt" in renewed.renewed
    assert made.key("ca").read_bytes() == key
    leaf.verify_directly_issued_by(certificate(made.ca))


def test_a_new_address_makes_a_new_serving_certificate_only(tmp_path: Path) -> None:
    ensure(tmp_path)
    assert ensure(tmp_path, addresses=["192.0.2.7", "192.0.2.8"]).renewed == ("apiserver.crt",)


def test_a_lost_authority_renews_what_it_signed(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    made.key("ca").unlink()
    renewed = ensure(tmp_path).renewed
    assert {"ca.crt", "apiserver.crt", "admin.conf"} <= set(renewed)
    assert "front-proxy-client.crt" not in renewed
    assert "sa.key" not in renewed


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00\xff", b"- a\n- b\n", b"users: []\nclusters: []\n"])
def test_a_broken_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    made = ensure(tmp_path)
    made.certificate("apiserver").write_bytes(content)
    made.kubeconfig("admin").write_bytes(content)
    assert set(ensure(tmp_path).renewed) == {"apiserver.crt", "admin.conf"}


def test_a_certificate_whose_key_was_swapped_is_made_anew(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    made.key("apiserver").write_bytes(made.key("front-proxy-client").read_bytes())
    assert ensure(tmp_path).renewed == ("apiserver.crt",)


def test_a_signing_key_that_was_brought_along_is_kept(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    theirs = certificates.render_key(rsa.generate_private_key(65537, 2048))
    (made.directory / "sa.key").write_bytes(theirs)
    assert ensure(tmp_path).renewed == ()
    assert (made.directory / "sa.key").read_bytes() == theirs
    public = certificates.render_public_key(certificates.parse_key(theirs))
    assert (made.directory / "sa.pub").read_bytes() == public


def test_no_temporary_file_is_left_behind(tmp_path: Path) -> None:
    ensure(tmp_path)
    assert not list(tmp_path.rglob(".*"))


def test_tls_accepts_server_and_client(tmp_path: Path) -> None:
    made = ensure(tmp_path, datetime.datetime.now(datetime.UTC))
    admin = kubeconfig.parse(made.kubeconfig("admin").read_bytes())
    (tmp_path / "c.pem").write_bytes(admin.certificate + admin.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate("apiserver"), made.key("apiserver"))
    server.load_verify_locations(made.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(made.ca))
    client.load_cert_chain(tmp_path / "c.pem")
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(a, b, server_side=True),
        client.wrap_bio(b, a, server_hostname="kubernetes.default.svc.cluster.local"),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    subject = dict(part[0] for part in ends[0].getpeercert()["subject"])  # type: ignore[index,misc]
    assert subject == {"organizationName": "system:masters", "commonName": "kubernetes-admin"}
