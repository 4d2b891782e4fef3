"""Ciphers for stored values, in upstream's formats, so that both servers can read one etcd.

Made by configuration, used by rules. A stored value is `k8s:enc:<cipher>:v1:<key name>:` and the cipher's own bytes:
* aesgcm: a nonce of 12 bytes, then ciphertext and tag; the key in the store is authenticated with it;
* aescbc: an IV of 16 bytes, then blocks padded by PKCS #7; nothing is authenticated;
* secretbox: a nonce of 24 bytes, then XSalsa20-Poly1305.
Promise: what `decrypt` returns is what was encrypted (for aescbc: unless somebody meant to deceive), or it raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

# All encrypted values begin so; no JSON does.
ENCRYPTED = b"k8s:enc:"

Entropy = Callable[[int], bytes]


class CannotDecrypt(Exception):
    """The key is another one, or the value is damaged. Says nothing of the value."""


class Transformer(Protocol):
    """One key of one cipher. `prefix` is of what it writes, and of what it can read."""

    prefix: bytes

    def encrypt(self, value: bytes, key: str) -> bytes:
        """`key` is where the value is stored."""
        ...

    def decrypt(self, value: bytes, key: str) -> bytes:
        """Raises CannotDecrypt."""
        ...


class Identity:
    """No encryption: writes plain text, and reads nothing else."""

    prefix = b""

    def encrypt(self, value: bytes, key: str) -> bytes:
        return value

    def decrypt(self, value: bytes, key: str) -> bytes:
        if value.startswith(ENCRYPTED):
            raise CannotDecrypt("it is encrypted, and no key fits")
        return value


class AesGcm:
    """AES in Galois/counter mode: a value moved to another place in the store does not decrypt."""

    _NONCE = 12
    _TAG = 16

    def __init__(self, name: str, secret: bytes, entropy: Entropy = os.urandom) -> None:
        self.prefix = ENCRYPTED + b"aesgcm:v1:" + name.encode() + b":"
        self._cipher = AESGCM(secret)
        self._entropy = entropy

    def encrypt(self, value: bytes, key: str) -> bytes:
        nonce = self._entropy(self._NONCE)
        return self.prefix + nonce + self._cipher.encrypt(nonce, value, key.encode())

    def decrypt(self, value: bytes, key: str) -> bytes:
        start = len(self.prefix) + self._NONCE
        if len(value) < start + self._TAG:
            raise CannotDecrypt("it is cut short")
        try:
            return self._cipher.decrypt(value[len(self.prefix) : start], value[start:], key.encode())
        except InvalidTag:
            raise CannotDecrypt("the key does not fit, or it is damaged") from None


class AesCbc:
    """AES in cipher block chaining mode: for what was written with it; it does not notice tampering."""

    _BLOCK = 16

    def __init__(self, name: str, secret: bytes, entropy: Entropy = os.urandom) -> None:
        self.prefix = ENCRYPTED + b"aescbc:v1:" + name.encode() + b":"
        self._algorithm = algorithms.AES(secret)
        self._entropy = entropy

    def encrypt(self, value: bytes, key: str) -> bytes:
        vector = self._entropy(self._BLOCK)
        padder = padding.PKCS7(self._BLOCK * 8).padder()
        padded = padder.update(value) + padder.finalize()
        encryptor = Cipher(self._algorithm, modes.CBC(vector)).encryptor()
        return self.prefix + vector + encryptor.update(padded) + encryptor.finalize()

    def decrypt(self, value: bytes, key: str) -> bytes:
        start = len(self.prefix) + self._BLOCK
        blocks = value[start:]
        if not blocks or len(blocks) % self._BLOCK:
            raise CannotDecrypt("it is cut short")
        decryptor = Cipher(self._algorithm, modes.CBC(value[len(self.prefix) : start])).decryptor()
        padded = decryptor.update(blocks) + decryptor.finalize()
        remover = padding.PKCS7(self._BLOCK * 8).unpadder()
        try:
            plain = remover.update(padded) + remover.finalize()
        except ValueError:
            raise CannotDecrypt("the key does not fit, or it is damaged") from None
        # Padding alone fits by chance in one of 256 cases; every value is a JSON object (or upstream's protobuf).
        if not (plain.startswith(b"{") and plain.endswith((b"}", b"}\n"))) and not plain.startswith(b"k8s\0"):
            raise CannotDecrypt("the key does not fit, or it is damaged")
        return plain


class Secretbox:
    """XSalsa20 and Poly1305: nonces so long that random ones never meet."""

    def __init__(self, name: str, secret: bytes, entropy: Entropy = os.urandom) -> None:
        self.prefix = ENCRYPTED + b"secretbox:v1:" + name.encode() + b":"
        self._box = SecretBox(secret)
        self._entropy = entropy

    def encrypt(self, value: bytes, key: str) -> bytes:
        return self.prefix + bytes(self._box.encrypt(value, self._entropy(SecretBox.NONCE_SIZE)))

    def decrypt(self, value: bytes, key: str) -> bytes:
        try:
            return self._box.decrypt(value[len(self.prefix) :])
        except (CryptoError, ValueError):
            raise CannotDecrypt("the key does not fit, or it is damaged") from None
