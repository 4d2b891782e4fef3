"""Expressions over the claims of a token and over the user made of them. Pure.

Compiled by configuration (which refuses faulty ones) and by jwt_tokens. Source: "Using Authentication Configuration".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from kybern.machinery import cel
from kybern.machinery.cel import types
from kybern.machinery.cel.types import ObjectField, ObjectType

_USER = ObjectType(
    "kubernetes.UserInfo",
    {
        "username": ObjectField(types.STRING, "username"),
        "uid": ObjectField(types.STRING, "uid"),
        "groups": ObjectField(types.list_of(types.STRING), "groups"),
        "extra": ObjectField(types.map_of(types.STRING, types.list_of(types.STRING)), "extra"),
    },
)
CLAIMS: Final = cel.Environment({"claims": types.map_of(types.STRING, types.DYN)})
USER: Final = cel.Environment({"user": _USER.type}, {_USER.name: _USER})


@lru_cache(maxsize=1024)
def compile_claims(text: str) -> cel.Program:
    """Raises CelError."""
    return cel.compile(text, CLAIMS)


@lru_cache(maxsize=1024)
def compile_user(text: str) -> cel.Program:
    """Raises CelError."""
    return cel.compile(text, USER)
