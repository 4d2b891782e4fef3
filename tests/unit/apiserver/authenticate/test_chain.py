from __future__ import annotations

import base64
import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kybern.api.core_v1 import Secret
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.request import Request, User
from kybern.machinery.status import ApiError
from kybern.pki import certificates
from kybern.pki.certificates import KeyPair, Profile
from kybern.testing.clock import START, FakeClock
from kybern.testing.objects import ObjectTable

YEAR = 365 * 86400


def make(profile: Profile, issuer: KeyPair | None = None) -> KeyPair:
    return certificates.issue(profile, issuer, START, certificates.generate_key())


CA = make(Profile("kubernetes", is_ca=True))
FRONT_CA = make(Profile("front-proxy-ca", is_ca=True))
JANE = make(Profile("jane", ("devs", "ops"), client=True), CA)
PROXY = make(Profile("front-proxy-client", client=True), FRONT_CA)
BOOTSTRAP = {
    "token-id": b"abcdef",
    "token-secret": b"0123456789abcdef",
    "usage-bootstrap-authentication": b"true",
    "auth-extra-groups": b"system:bootstrappers:blue",
    "expiration": b"2026-01-02T00:00:00Z",
}


class Door:
    def __init__(self, **secret: bytes) -> None:
        self.clock = FakeClock()
        self.objects = ObjectTable()
        data = {k: v for k, v in {**BOOTSTRAP, **{k.replace("_", "-"): v for k, v in secret.items()}}.items() if v}
        meta = ObjectMeta(name="bootstrap-token-abcdef", namespace="kube-system")
        self.objects.put(Secret(metadata=meta, type="bootstrap.kubernetes.io/token", data=data))
        options = AuthenticationOptions(
            client_ca=CA.certificate_pem,
            front_proxy_ca=FRONT_CA.certificate_pem,
            static_tokens='s3cret,ann,1,"devs,ops"\n\nplain,bob,2\n',
        )
        self.authenticators = Authenticators(options, self.objects, self.clock)

    def enter(self, path: str = "/api", *chain: KeyPair, **headers: str) -> User:
        names = {k.replace("_", "-"): v for k, v in headers.items()}
        certificates_ = tuple(c.certificate.public_bytes(Encoding.DER) for c in chain)
        return self.authenticators.authenticate(Request("GET", path, path, {}, names, certificates=certificates_))

    def refuses(self, path: str = "/api", *chain: KeyPair, **headers: str) -> bool:
        with pytest.raises(ApiError) as raised:
            self.enter(path, *chain, **headers)
        assert (raised.value.code, str(raised.value)) == (401, "Unauthorized")
        return True


class TestCertificates:
    def test_common_name_is_the_user_and_organizations_are_groups(self) -> None:
        digest = hashlib.sha256(JANE.certificate.public_bytes(Encoding.DER)).hexdigest()
        assert Door().enter("/api", JANE) == User(
            "jane",
            groups=("devs", "ops", "system:authenticated"),
            extra={"authentication.kubernetes.io/credential-id": (f"X509SHA256={digest}",)},
        )

    def test_a_chain_through_an_intermediate_is_good(self) -> None:
        middle = make(Profile("middle", is_ca=True), CA)
        leaf = make(Profile("joe", client=True), middle)
        assert Door().enter("/api", leaf, middle, CA).name == "joe"
        assert Door().refuses("/api", leaf)

    def test_a_leaf_cannot_vouch_for_others(self) -> None:
        forged = make(Profile("kubernetes-admin", ("system:masters",), client=True), JANE)
        assert Door().refuses("/api", forged, JANE, CA)

    def test_the_front_proxys_authority_vouches_for_no_user(self) -> None:
        admin = make(Profile("kubernetes-admin", ("system:masters",), client=True), FRONT_CA)
        assert Door().refuses("/api", admin)
        assert Door().refuses("/api", admin, FRONT_CA)

    def test_a_server_certificate_is_not_for_clients(self) -> None:
        assert Door().refuses("/api", make(Profile("kube-apiserver", server=True), CA))

    def test_a_certificate_without_a_name_is_nobody(self) -> None:
        assert Door().refuses("/api", make(Profile(" ", client=True), FRONT_CA))

    def test_a_certificate_expires_under_an_open_connection(self) -> None:
        door = Door()
        assert door.enter("/api", JANE).name == "jane"
        door.clock.move(YEAR + 1)
        assert door.refuses("/api", JANE)

    def test_a_bad_certificate_is_refused_also_where_nobody_needs_one(self) -> None:
        assert Door().refuses("/healthz", make(Profile("eve", client=True)))

    def test_garbage_is_refused(self) -> None:
        request = Request("GET", "/api", "/api", {}, {}, certificates=(b"garbage",))
        with pytest.raises(ApiError):
            Door().authenticators.authenticate(request)

    def test_the_users_uid_may_be_in_the_certificate(self) -> None:
        uid = x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.57683.2"), "u-1")
        key = certificates.generate_key()
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jane"), uid]))
            .issuer_name(CA.certificate.subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(START)
            .not_valid_after(START + datetime.timedelta(days=1))
            .sign(CA.key, certificates.hashes.SHA256())
        )
        assert Door().enter("/api", KeyPair(built, key)).uid == "u-1"


class TestFrontProxy:
    def test_its_headers_name_the_user(self) -> None:
        headers = {
            "x_remote_user": "jane",
            "x_remote_group": "devs, ops",
            "x_remote_uid": "7",
            "x_remote_extra_scopes%2fa": "x, y",
        }
        assert Door().enter("/api", PROXY, **headers) == User(
            "jane", "7", ("devs", "ops", "system:authenticated"), {"scopes/a": ("x", "y")}
        )

    def test_headers_without_its_certificate_are_not_believed(self) -> None:
        assert Door().refuses("/api", x_remote_user="admin", x_remote_group="system:masters")
        assert Door().enter("/api", JANE, x_remote_user="admin").name == "jane"

    def test_only_an_allowed_name_may_be_a_front_proxy(self) -> None:
        other = make(Profile("someone", client=True), FRONT_CA)
        assert Door().refuses("/api", other, x_remote_user="admin")

    def test_a_proxied_nobody_stays_nobody(self) -> None:
        headers = {"x_remote_user": "system:anonymous", "x_remote_group": "system:unauthenticated"}
        assert Door().enter("/api", PROXY, **headers).groups == ("system:unauthenticated",)


class TestTokens:
    def test_a_static_token_names_user_and_groups(self) -> None:
        door = Door()
        assert door.enter(authorization="Bearer s3cret") == User("ann", "1", ("devs", "ops", "system:authenticated"))
        assert door.enter(authorization="bearer  plain").groups == ("system:authenticated",)

    @pytest.mark.parametrize("content", ["a,b", "a", ",u,1", "t,,1", "t,u,1\nt,v,2"])
    def test_a_broken_token_file_is_refused_with_its_line(self, content: str) -> None:
        with pytest.raises(ValueError, match="token file, line"):
            Authenticators(AuthenticationOptions(static_tokens=content), ObjectTable(), FakeClock())

    def test_a_bootstrap_token_joins_nodes(self) -> None:
        user = Door().enter(authorization="Bearer abcdef.0123456789abcdef")
        assert user.name == "system:bootstrap:abcdef"
        assert user.groups == ("system:bootstrappers", "system:bootstrappers:blue", "system:authenticated")

    @pytest.mark.parametrize(
        "secret",
        [
            {"token_secret": b"0123456789abcdeX"},
            {"token_secret": b""},
            {"token_id": b"xxxxxx"},
            {"usage_bootstrap_authentication": b""},
            {"expiration": b"2026-01-01T00:00:00Z"},
            {"expiration": b"some day"},
            {"auth_extra_groups": b"system:masters"},
        ],
    )
    def test_a_flawed_bootstrap_token_is_refused(self, secret: dict[str, bytes]) -> None:
        assert Door(**secret).refuses(authorization="Bearer abcdef.0123456789abcdef")

    def test_a_bootstrap_token_ends_with_its_secret(self) -> None:
        door = Door()
        assert door.enter(authorization="Bearer abcdef.0123456789abcdef")
        door.objects.remove("secrets", "kube-system", "bootstrap-token-abcdef")
        assert door.refuses(authorization="Bearer abcdef.0123456789abcdef")

    def test_a_browser_may_send_its_token_as_a_protocol(self) -> None:
        encoded = base64.urlsafe_b64encode(b"s3cret").decode().rstrip("=")
        protocol = f"base64url.bearer.authorization.k8s.io.{encoded}, v4.channel.k8s.io"
        assert Door().enter(sec_websocket_protocol=protocol).name == "ann"
        assert Door().refuses(sec_websocket_protocol="base64url.bearer.authorization.k8s.io.!!, v4.channel.k8s.io")


class TestNobody:
    @pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
    def test_health_and_version_are_open(self, path: str) -> None:
        assert Door().enter(path) == User("system:anonymous", groups=("system:unauthenticated",))

    @pytest.mark.parametrize("path", ["/", "/api", "/apis", "/healthz/etcd", "/metrics", "/openapi/v2", "/healthzz"])
    def test_all_else_is_closed(self, path: str) -> None:
        assert Door().refuses(path)

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Basic dTpw", "s3cret", "Bearer wrong", "Bearer s3cret s3cret",
         "Bearer s3cret, Bearer x", "Bearer \x00", "Bearer é", "Bearer a.b.c", "Negotiate x"],
    )  # fmt: skip
    def test_a_bad_authorization_header_is_refused_even_there(self, header: str) -> None:
        assert Door().refuses("/healthz", authorization=header)
