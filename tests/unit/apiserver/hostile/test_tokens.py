"""Confused and forged tokens: of issuers elsewhere, and of our own service accounts. None opens anything."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kybern.apiserver.authenticate import configuration
from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.authenticate.jwt_tokens import parse_keys
from kybern.apiserver.authenticate.keys import SigningKey
from kybern.apiserver.authenticate.verdict import InvalidToken
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock
from kybern.testing.issuer import EC, NOW, OTHER_RSA, RSA, URL, Issuer, claims, forged, jwk, token
from kybern.testing.objects import ObjectTable

pytestmark = pytest.mark.thorough

CONFIG = configuration.parse(
    f"""
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {{url: '{URL}', audiences: [kybern]}}
  claimMappings: {{username: {{claim: sub, prefix: 'oidc:'}}, groups: {{claim: groups, prefix: 'oidc:'}}}}
""".encode()
)
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(secret: bytes, kid: str = "one") -> str:
    """Signed with a public key, as if it were a shared secret."""
    unsigned = forged({"alg": "HS256", "typ": "JWT", "kid": kid}, claims()).rpartition(".")[0]
    return f"{unsigned}.{jwt.utils.base64url_encode(hmac.digest(secret, unsigned.encode(), hashlib.sha256)).decode()}"


TOKENS: dict[str, Any] = {
    "no algorithm": forged({"alg": "none"}, claims()),
    "no algorithm, oddly spelled": forged({"alg": "nOnE", "kid": "one"}, claims()),
    "an empty algorithm": forged({"alg": "", "kid": "one"}, claims()),
    "an algorithm that is a list": forged({"alg": ["RS256"], "kid": "one"}, claims()),
    "no signature": token().rpartition(".")[0] + ".",
    "the public key as a shared secret": hs256(PUBLIC_PEM),
    "the public key in DER as a shared secret": hs256(
        RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ),
    "an empty shared secret": hs256(b""),
    "another key": token(OTHER_RSA),
    "another key under no name": token(OTHER_RSA, kid=None),
    "another key that it brings along": jwt.encode(
        claims(), OTHER_RSA, "RS256", {"kid": "one", "jwk": jwk("one", OTHER_RSA), "jku": "https://evil.example"}
    ),
    "a name of a key that is a path": token(OTHER_RSA, kid="../../dev/null"),
    "a name of a key that is a query": token(OTHER_RSA, kid="' or 1=1 --"),
    "an elliptic key under an RSA name": token(EC, "ES256"),
    "another issuer": token(iss="https://evil.example"),
    "an issuer with a slash": token(iss=URL + "/"),
    "an issuer in capitals": token(iss=URL.upper()),
    "a list of issuers": forged({"alg": "RS256", "kid": "one"}, claims(iss=[URL])),
    "another audience": token(aud="others"),
    "an audience that begins like ours": token(aud="kybern.evil"),
    "no audience": token(aud=None),
    "expired": token(exp=NOW - 1),
    "no expiry": token(exp=None),
    "an expiry that is a text": token(exp="never"),
    "an expiry that is not a number": forged({"alg": "RS256", "kid": "one"}, claims(exp=None)),
    "not yet valid": token(nbf=NOW + 3600),
    "a name that is none": token(sub=["john"]),
    "a critical extension": jwt.encode(claims(), RSA, "RS256", {"kid": "one", "crit": ["b64"], "b64": False}),
    "an encrypted token": "a.b.c.d.e",
    "dots": "..",
    "a huge token": token(filling="x" * 100_000),
    "deep claims": forged({"alg": "RS256", "kid": "one"}, {"iss": URL, "a": "[" * 5000}),
}


def test_a_forged_or_confused_token_opens_nothing() -> None:
    issuer = Issuer()

    async def scenario(api: Api) -> None:
        for name, text in TOKENS.items():
            answer = await api.get("/api", authorization=f"Bearer {text}")
            assert answer.status == 401, name
            assert all(url.startswith(URL) for url in issuer.fetched), f"{name}: a token chose where we look"
        assert (await api.get("/version", authorization=f"Bearer {token()}")).status == 200, "and a good one does"

    api_server.run(scenario, options={"authentication": CONFIG}, webhooks=issuer)


def test_a_good_token_is_no_stronger_than_its_prefix_lets_it_be() -> None:
    async def scenario(api: Api) -> int:
        forged_groups = token(sub="system:admin", groups=["system:masters"])
        return (await api.get("/api/v1/secrets", authorization=f"Bearer {forged_groups}")).status

    assert api_server.run(scenario, options={"authentication": CONFIG}, webhooks=Issuer()) == 403


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB", "use": "enc"},
        {"kty": "EC", "kid": "one", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "one", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "one"},
        {"kty": "OKP", "kid": "one", "crv": "Ed25519", "x": "AA"},
        {},
    ],
)
def test_keys_that_are_no_public_keys_for_signatures_are_passed_over(key: dict[str, Any]) -> None:
    issuer = Issuer()
    issuer.keys = {"odd": key, "one": RSA}
    import msgspec

    found = parse_keys(msgspec.json.encode({"keys": [key, jwk("one", RSA)]}))
    assert [kid for kid, _, _ in found] == ["one"]


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": f"{URL}/keys"},
        {"issuer": URL, "jwks_uri": "http://issuer.example/keys"},
        {"issuer": URL, "jwks_uri": "file:///etc/passwd"},
        {"issuer": URL},
        {},
    ],
)
def test_a_discovery_document_that_lies_gives_no_keys(document: dict[str, Any]) -> None:
    issuer = Issuer()
    issuer.document = document

    async def scenario(api: Api) -> None:
        assert (await api.get("/api", authorization=f"Bearer {token()}")).status == 401
        assert len(issuer.fetched) == 1

    api_server.run(scenario, options={"authentication": CONFIG}, webhooks=issuer)


OWN = "https://kubernetes.default.svc.cluster.local"
OWN_KEY = ec.generate_private_key(ec.SECP256R1())
OWN_PEM = OWN_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ACCOUNT = {"namespace": "default", "serviceaccount": {"name": "a", "uid": "1"}}


def own_claims(**more: Any) -> dict[str, Any]:
    found = {
        "iss": OWN,
        "sub": "system:serviceaccount:default:a",
        "aud": [OWN],
        "exp": NOW + 3600,
        "nbf": NOW,
        "iat": NOW,
        "kubernetes.io": ACCOUNT,
        **more,
    }
    return {k: v for k, v in found.items() if v is not None}


def own(key: Any = OWN_KEY, algorithm: str = "ES256", **more: Any) -> str:
    return jwt.encode(own_claims(**more), key, algorithm=algorithm, headers={"kid": SigningKey(OWN_PEM).public.id})


OWN_TOKENS = {
    "no algorithm": forged({"alg": "none"}, own_claims()),
    "another key under our name": own(ec.generate_private_key(ec.SECP256R1())),
    "another curve": own(ec.generate_private_key(ec.SECP384R1()), "ES384"),
    "the public key as a secret": forged({"alg": "HS256"}, own_claims(), b"x"),
    "another issuer": own(iss="https://evil.example"),
    "another audience": own(aud=["vault"]),
    "expired": own(exp=NOW - 3600),
    "no expiry": own(exp=None),
    "not yet valid": own(nbf=NOW + 3600, iat=NOW + 3600),
    "another subject": own(sub="system:serviceaccount:kube-system:b"),
    "an admin for a subject": own(sub="system:admin"),
    "no account": own(**{"kubernetes.io": None}),
    "an account that is gone": own(**{"kubernetes.io": {**ACCOUNT, "serviceaccount": {"name": "gone", "uid": "1"}}}),
    "a legacy token with the wrong issuer": own(
        iss="kubernetes/serviceaccount", **{"kubernetes.io/serviceaccount/namespace": "default"}
    ),
}


@pytest.mark.parametrize("name", OWN_TOKENS)
def test_a_forged_service_account_token_opens_nothing(name: str) -> None:
    options = AuthenticationOptions(service_account_keys=(OWN_PEM,), issuers=(OWN,), audiences=(OWN,))
    door = Authenticators(options, ObjectTable(), FakeClock())
    with pytest.raises(InvalidToken):
        door.authenticate_token(OWN_TOKENS[name], (OWN,))
