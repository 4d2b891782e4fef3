from __future__ import annotations

import json
from collections.abc import Callable

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kybern.apiserver.authenticate import openid
from kybern.apiserver.authenticate.keys import KeyRing, SigningKey, parse_public_keys
from kybern.apiserver.authenticate.verdict import InvalidToken

RSA = rsa.generate_private_key(65537, 2048)
CURVES = [ec.generate_private_key(c) for c in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())]
KEYS = [*CURVES, RSA]


def private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("key", KEYS)
def test_what_a_key_signs_its_public_half_opens(key: ec.EllipticCurvePrivateKey) -> None:
    token = SigningKey(private(key)).sign({"a": 1})
    for pem in (private(key), public(key)):
        assert json.loads(KeyRing(parse_public_keys(pem)).open(token)) == {"a": 1}


def test_a_file_may_hold_many_keys_and_each_opens_its_tokens() -> None:
    ring = KeyRing(parse_public_keys(b"\n".join(public(k) for k in KEYS)))
    assert [k.algorithm for k in ring.keys] == ["ES256", "ES384", "ES512", "RS256"]
    for key in KEYS:
        assert ring.open(SigningKey(private(key)).sign({}))


def test_a_token_without_key_id_is_tried_with_all() -> None:
    token = jwt.encode({"a": 1}, CURVES[0], algorithm="ES256")
    assert KeyRing(parse_public_keys(public(RSA) + public(CURVES[0]))).open(token)


def test_a_token_of_a_stranger_is_refused_whatever_key_it_names() -> None:
    ring = KeyRing(parse_public_keys(public(CURVES[0])))
    forged = jwt.encode({}, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": ring.keys[0].id})
    with pytest.raises(InvalidToken):
        ring.open(forged)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
@pytest.mark.parametrize("parse", [parse_public_keys, SigningKey])
def test_what_is_no_key_is_refused(parse: Callable[[bytes], object], content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(content)


@pytest.mark.parametrize("parse", [parse_public_keys, SigningKey])
def test_keys_that_jwts_cannot_be_signed_with_are_refused(parse: Callable[[bytes], object]) -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(ValueError, match=r"EC or RSA|no JWT algorithm"):
            parse(private(key))


def test_others_can_check_our_tokens_with_what_we_publish() -> None:
    ring = KeyRing(parse_public_keys(b"".join(public(k) for k in KEYS)))
    published = jwt.PyJWKSet.from_json(openid.render_keys(ring.keys).decode())
    for key in KEYS:
        token = SigningKey(private(key)).sign({"sub": "x"})
        header = jwt.get_unverified_header(token)
        assert jwt.decode(token, published[header["kid"]], algorithms=[header["alg"]]) == {"sub": "x"}


def test_the_discovery_document_is_that_of_upstream() -> None:
    keys = parse_public_keys(public(CURVES[0]) + public(RSA))
    document = openid.render_configuration("https://issuer", "https://10.0.0.1:6443/openid/v1/jwks", keys)
    assert json.loads(document) == {
        "issuer": "https://issuer",
        "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
    }
