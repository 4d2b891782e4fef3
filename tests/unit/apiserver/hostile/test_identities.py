"""Spoofed front-proxy headers and confused certificates: who vouches for whom."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.request import Request, User
from kybern.machinery.status import ApiError
from kybern.pki import certificates
from kybern.pki.certificates import KeyPair, Profile
from kybern.testing.clock import START, FakeClock
from kybern.testing.objects import ObjectTable

pytestmark = pytest.mark.thorough


def authority(name: str) -> KeyPair:
    return certificates.issue(Profile(name, is_ca=True), None, START, certificates.generate_key())


def leaf(issuer: KeyPair | None, name: str, groups: tuple[str, ...] = (), **kind: Any) -> bytes:
    pair = certificates.issue(
        Profile(name, groups, **({"client": True} | kind)), issuer, START, certificates.generate_key()
    )
    return x509.load_pem_x509_certificate(pair.certificate_pem).public_bytes(Encoding.DER)


CLIENTS, PROXIES, STRANGERS = authority("clients"), authority("proxies"), authority("strangers")
DOOR = Authenticators(
    AuthenticationOptions(
        client_ca=CLIENTS.certificate_pem,
        front_proxy_ca=PROXIES.certificate_pem,
        front_proxy_names=("front-proxy-client",),
        static_tokens="s3cret,ann,1",
    ),
    ObjectTable(),
    FakeClock(),
)
SPOOFED = {"x-remote-user": "admin", "x-remote-group": "system:masters", "x-remote-uid": "0", "x-remote-extra-a": "b"}


def who(chain: tuple[bytes, ...] = (), **headers: str) -> User | int:
    try:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return DOOR.authenticate(Request("GET", "/api", "/api", {}, named, certificates=chain))
    except ApiError as error:
        return error.code


def name_of(found: User | int) -> str | int:
    return found.name if isinstance(found, User) else found


def test_the_front_proxy_is_believed() -> None:
    found = who((leaf(PROXIES, "front-proxy-client"),), **SPOOFED)
    assert isinstance(found, User)
    assert (found.name, found.groups) == ("admin", ("system:masters", "system:authenticated"))


SPOOFS = {
    "without a certificate": ((), 401),
    "with a client's own certificate": ((leaf(CLIENTS, "jane"),), "jane"),
    "with a client's certificate in the proxy's name": ((leaf(CLIENTS, "front-proxy-client"),), "front-proxy-client"),
    "with a proxy's certificate in another name": ((leaf(PROXIES, "other"),), 401),
    "with a stranger's certificate": ((leaf(STRANGERS, "front-proxy-client"),), 401),
    "with a certificate that signed itself": ((leaf(None, "front-proxy-client"),), 401),
    "with a proxy's certificate for servers": ((leaf(PROXIES, "front-proxy-client", client=False, server=True),), 401),
    "with the authority behind a leaf of another": (
        (
            leaf(STRANGERS, "front-proxy-client"),
            x509.load_pem_x509_certificate(PROXIES.certificate_pem).public_bytes(Encoding.DER),
        ),
        401,
    ),
}


@pytest.mark.parametrize("how", SPOOFS)
def test_headers_of_a_front_proxy_are_believed_from_nobody_else(how: str) -> None:
    chain, expected = SPOOFS[how]
    found = who(chain, **SPOOFED)
    assert name_of(found) == expected
    if isinstance(found, User):
        assert "system:masters" not in found.groups


def test_a_token_does_not_make_the_headers_of_a_proxy_true() -> None:
    found = who(authorization="Bearer s3cret", **SPOOFED)
    assert isinstance(found, User)
    assert (found.name, found.groups) == ("ann", ("system:authenticated",))


def test_the_authority_of_proxies_vouches_for_no_user() -> None:
    assert who((leaf(PROXIES, "admin", ("system:masters",)),)) == 401


def test_a_leaf_signs_no_other() -> None:
    signer = certificates.issue(Profile("jane", client=True), CLIENTS, START, certificates.generate_key())
    chain = (
        leaf(signer, "admin", ("system:masters",)),
        x509.load_pem_x509_certificate(signer.certificate_pem).public_bytes(Encoding.DER),
    )
    assert who(chain) == 401


def test_an_authority_of_the_same_name_is_another() -> None:
    assert who((leaf(authority("clients"), "admin", ("system:masters",)),)) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x_remote_user": ""},
        {"x_remote_user": "a\r\nX-Remote-Group: system:masters"},
        {"x_remote_user": "system:anonymous", "x_remote_group": "system:masters"},
        {"x_remote_user": "a", "x_remote_extra_%zz": "b", "x_remote_extra_": "c"},
        {"x_remote_user": "a" * 100_000},
        {"x_remote_user": "\u202eadmin"},
    ],
)
def test_odd_headers_of_a_real_proxy_are_no_fault(headers: dict[str, str]) -> None:
    assert name_of(who((leaf(PROXIES, "front-proxy-client"),), **headers)) in (401, headers["x_remote_user"])
