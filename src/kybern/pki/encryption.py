"""The file of keys with which a new cluster's API server encrypts Secrets in its store.

Written by ensure, read by apiserver/encryption (as any kube-apiserver would). Pure.
"""

from __future__ import annotations

import base64

import msgspec

KEY_BYTES = 32  # of secretbox: XSalsa20 and Poly1305, whose random nonces never meet


def render(secret: bytes) -> bytes:
    """One key for Secrets; what was stored as plain text before can be read on."""
    key = {"name": "key1", "secret": base64.b64encode(secret).decode()}
    entry = {"resources": ["secrets"], "providers": [{"secretbox": {"keys": [key]}}, {"identity": {}}]}
    value = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"  # JSON is YAML
