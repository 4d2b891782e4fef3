"""Let others check our service account tokens: the OpenID discovery document and the key set.

Served at /.well-known/openid-configuration and /openid/v1/jwks.
Source: "Service account issuer discovery" in the documentation; OpenID Connect Discovery 1.0; RFC 7517.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kybern.apiserver.authenticate.keys import PublicKey, render_jwk

CONFIGURATION_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"
CONFIGURATION_TYPE = "application/json"
KEYS_TYPE = "application/jwk-set+json"


def render_configuration(issuer: str, keys_uri: str, keys: Sequence[PublicKey]) -> bytes:
    """`keys_uri` is the absolute URL of KEYS_PATH as clients reach it."""
    return msgspec.json.encode(
        {
            "issuer": issuer,
            "jwks_uri": keys_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({k.algorithm for k in keys}),
        }
    )


def render_keys(keys: Sequence[PublicKey]) -> bytes:
    return msgspec.json.encode({"keys": [render_jwk(k) for k in keys]})
