"""Whatever a client sends: a user or 401, never anything else."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.authenticate.keys import SigningKey
from kybern.apiserver.authenticate.verdict import InvalidToken
from kybern.apiserver.request import Request
from kybern.machinery.status import ApiError
from kybern.pki import certificates
from kybern.pki.certificates import Profile
from kybern.testing.clock import START, FakeClock
from kybern.testing.objects import ObjectTable

# Machines under load are slow: only wrong answers count here.
PATIENT = settings(deadline=None, max_examples=100)
ISSUER = "https://kubernetes.default.svc.cluster.local"
PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
CA = certificates.issue(Profile("ca", is_ca=True), None, START, certificates.generate_key())
OPTIONS = AuthenticationOptions(
    client_ca=CA.certificate_pem,
    front_proxy_ca=CA.certificate_pem,
    static_tokens="s3cret,ann,1",
    service_account_keys=(PEM,),
)
DOOR = Authenticators(OPTIONS, ObjectTable(), FakeClock())
SIGNING = SigningKey(PEM)
KEY = certificates.generate_key()

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = st.fixed_dictionaries(
    {"iss": st.sampled_from([ISSUER, "kubernetes/serviceaccount"])},
    optional=dict.fromkeys(("sub", "aud", "exp", "nbf", "iat", "jti", "kubernetes.io"), VALUES),
)


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def enter(headers: dict[str, str], chain: tuple[bytes, ...] = ()) -> None:
    try:
        DOOR.authenticate(Request("GET", "/api", "/api", {}, headers, certificates=chain))
    except ApiError as error:
        assert error.code == 401


@PATIENT
@given(st.text(st.characters(max_codepoint=255)))
def test_any_authorization_header(value: str) -> None:
    enter({"authorization": value})
    enter({"authorization": f"Bearer {value}"})
    enter({"sec-websocket-protocol": f"base64url.bearer.authorization.k8s.io.{value}"})


@PATIENT
@given(st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_any_three_parts(parts: list[bytes]) -> None:
    enter({"authorization": "Bearer " + ".".join(encode(p) for p in parts)})


@PATIENT
@given(VALUES, VALUES)
def test_any_json_in_a_token(header: object, claims: object) -> None:
    parts = [encode(json.dumps(p).encode()) for p in (header, claims)]
    enter({"authorization": f"Bearer {'.'.join(parts)}.{encode(b'x')}"})


@PATIENT
@given(CLAIMS)
def test_any_claims_we_signed_ourselves(claims: dict[str, object]) -> None:
    enter({"authorization": f"Bearer {SIGNING.sign(json.loads(json.dumps(claims, default=str)))}"})


@PATIENT
@given(st.text())
def test_any_token_under_review(token: str) -> None:
    try:
        DOOR.authenticate_token(token, DOOR.audiences)
    except InvalidToken:
        pass


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_deep_token_does_not_crash(depth: int) -> None:
    body = encode(b"[" * depth + b"]" * depth)
    enter({"authorization": f"Bearer {body}.{body}.{body}"})
    nested = encode(b'{"iss":' + b"[" * depth + b"]" * depth + b"}")
    enter({"authorization": f"Bearer {encode(b'{}')}.{nested}.x"})


@PATIENT
@given(st.binary(max_size=60), st.integers(0, 400))
def test_a_damaged_certificate(noise: bytes, at: int) -> None:
    leaf = certificates.issue(Profile("jane", client=True), CA, START, KEY)
    der = leaf.certificate.public_bytes(Encoding.DER)
    enter({"x-remote-user": "admin"}, (der[:at] + noise + der[at + len(noise) :],))
    enter({}, (noise,))
