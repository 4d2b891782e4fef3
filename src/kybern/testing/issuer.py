"""An OpenID Connect issuer for tests: signs tokens, and answers for its documents in memory."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kybern.apiserver.webhooks.destination import Destination
from kybern.client.http import Disconnected, Head
from kybern.testing.clock import START

URL = "https://issuer.example"
NOW = int(START.timestamp())  # of the claims, if the test says nothing else
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """`fetched`: the URLs that were asked for. `broken`: it answers nothing."""

    def __init__(self, url: str = URL, discovery_url: str = "") -> None:
        self.url = url
        self.discovery_url = discovery_url or f"{url}/.well-known/openid-configuration"
        self.keys: dict[str, Any] = {"one": RSA}
        self.fetched: list[str] = []
        self.broken = False
        self.document: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/keys"}

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]:
        self.fetched.append(to.url)
        if self.broken:
            raise Disconnected("connection refused")
        if to.url == self.discovery_url:
            return Head(200, {}), msgspec.json.encode(self.document)
        if to.url == f"{self.url}/keys":
            return Head(200, {}), msgspec.json.encode({"keys": [jwk(kid, key) for kid, key in self.keys.items()]})
        return Head(404, {}), b"nothing here"

    def close(self) -> None:
        pass


def jwk(kid: str, key: Any) -> dict[str, Any]:
    if isinstance(key, dict):
        return key
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    shown: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return {**shown, "kid": kid, "use": "sig"}


def claims(**more: Any) -> dict[str, Any]:
    found = {"iss": URL, "sub": "john", "aud": "kybern", "exp": NOW + 3600, "iat": NOW, **more}
    return {name: value for name, value in found.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **more: Any) -> str:
    """Signed with `key`; `more` are claims, None takes one away."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers)


def forged(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """Any header, any claims, any signature."""
    parts = (msgspec.json.encode(header), msgspec.json.encode(payload), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
