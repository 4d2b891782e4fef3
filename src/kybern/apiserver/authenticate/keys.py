"""Keys of service account tokens: sign a JWT, and check one against the keys we trust.

Used by issue (signing), service_accounts (checking) and openid (publishing). The algorithm follows from the key and
never from the token, so a token cannot choose how it is judged. Times in a token are not judged here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kybern.apiserver.authenticate.verdict import InvalidToken

_CURVES = {"secp256r1": ("ES256", "P-256"), "secp384r1": ("ES384", "P-384"), "secp521r1": ("ES512", "P-521")}
_JWS = jwt.PyJWS(algorithms=["ES256", "ES384", "ES512", "RS256"])
_BLOCK = re.compile(rb"-----BEGIN [A-Z ]+-----[^-]*-----END [A-Z ]+-----")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that tokens may be signed by."""

    id: str  # base64url of SHA-256 over the key's DER, as upstream names keys
    algorithm: str
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def parse_public_keys(pem: bytes) -> list[PublicKey]:
    """All keys in a PEM file, private ones too (their public half). Raises ValueError."""
    blocks = [b for b in _BLOCK.findall(pem) if not b.startswith(b"-----BEGIN EC PARAMETERS")]
    if not blocks:
        raise ValueError("no PEM block with a key was found")
    return [_public_key(_parse(b)) for b in blocks]


class SigningKey:
    """The private key new tokens are signed with."""

    def __init__(self, pem: bytes) -> None:
        """Raises ValueError when `pem` holds no EC or RSA private key."""
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"not a usable private key: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("service account tokens are signed with EC or RSA keys only")
        self._key = key
        self.public = _public_key(key.public_key())

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The compact JWT."""
        headers = {"kid": self.public.id, "typ": None}  # upstream writes no typ
        payload = msgspec.json.encode(claims)
        return _JWS.encode(payload, self._key, algorithm=self.public.algorithm, headers=headers)


def parse_signing_key(pem: bytes) -> SigningKey:
    """Raises ValueError when `pem` holds no EC or RSA private key."""
    return SigningKey(pem)


class KeyRing:
    """The public keys we trust."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self.keys = tuple({k.id: k for k in keys}.values())
        self._by_id = {k.id: k for k in self.keys}

    def open(self, token: str) -> bytes:
        """The payload of a token signed by one of the keys. Raises InvalidToken."""
        try:
            named = self._by_id.get(jwt.get_unverified_header(token).get("kid", ""))
        except (jwt.InvalidTokenError, TypeError) as error:
            raise InvalidToken(f"not a JSON Web Token: {error}") from None
        for key in (named,) if named else self.keys:
            try:
                return bytes(_JWS.decode_complete(token, key.key, algorithms=[key.algorithm])["payload"])
            except jwt.InvalidTokenError:
                continue
        raise InvalidToken("the token is not signed by a key of this cluster")


def render_jwk(key: PublicKey) -> dict[str, str]:
    """The key as RFC 7517 wants it."""
    jwk = {"use": "sig", "kid": key.id, "alg": key.algorithm}
    if isinstance(key.key, ec.EllipticCurvePublicKey):
        numbers = key.key.public_numbers()
        size = (key.key.curve.key_size + 7) // 8
        curve = _CURVES[key.key.curve.name][1]
        return jwk | {"kty": "EC", "crv": curve, "x": _integer(numbers.x, size), "y": _integer(numbers.y, size)}
    parts = key.key.public_numbers()
    return jwk | {"kty": "RSA", "n": _integer(parts.n), "e": _integer(parts.e)}


def _parse(block: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    try:
        if b"PUBLIC KEY" in block:
            key: Any = serialization.load_pem_public_key(block)
        elif b"PRIVATE KEY" in block:
            key = serialization.load_pem_private_key(block, None).public_key()
        else:
            from cryptography import x509

            key = x509.load_pem_x509_certificate(block).public_key()
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a usable key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError("service account tokens are signed with EC or RSA keys only")
    return key


def _public_key(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> PublicKey:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if isinstance(key, rsa.RSAPublicKey):
        algorithm = "RS256"
    elif key.curve.name in _CURVES:
        algorithm = _CURVES[key.curve.name][0]
    else:
        raise ValueError(f"no JWT algorithm for keys on curve {key.curve.name}")
    return PublicKey(_encode(hashlib.sha256(der).digest()), algorithm, key)


def _integer(number: int, size: int = 0) -> str:
    return _encode(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
