"""What the JWTs of service accounts say: typed at the door, and the users they stand for.

Written by issue, read by service_accounts. Source: "Service account tokens" in the Kubernetes documentation.
"""

from __future__ import annotations

import msgspec

from kybern.apiserver.authenticate.verdict import AUTHENTICATED, InvalidToken
from kybern.apiserver.request import User

LEGACY_ISSUER = "kubernetes/serviceaccount"
USER_PREFIX = "system:serviceaccount:"
ALL_ACCOUNTS = "system:serviceaccounts"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_UID = "authentication.kubernetes.io/node-uid"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_LEGACY = "kubernetes.io/serviceaccount/"


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object by name and identity."""

    name: str = ""
    uid: str = ""


class Bound(msgspec.Struct, frozen=True, omit_defaults=True):
    """The claim `kubernetes.io`: the account, and the object with which the token dies."""

    namespace: str
    serviceaccount: Named
    pod: Named | None = None
    secret: Named | None = None
    node: Named | None = None
    warnafter: int | None = None


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """All claims we read; a token may carry others."""

    iss: str = ""
    sub: str = ""
    aud: str | list[str] = msgspec.field(default_factory=list)
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    jti: str = ""
    bound: Bound | None = msgspec.field(default=None, name="kubernetes.io")
    legacy_namespace: str = msgspec.field(default="", name=_LEGACY + "namespace")
    legacy_secret: str = msgspec.field(default="", name=_LEGACY + "secret.name")
    legacy_name: str = msgspec.field(default="", name=_LEGACY + "service-account.name")
    legacy_uid: str = msgspec.field(default="", name=_LEGACY + "service-account.uid")

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.aud,) if isinstance(self.aud, str) else tuple(self.aud)


_decoder = msgspec.json.Decoder(Claims)


def parse(payload: bytes) -> Claims:
    """Raises InvalidToken."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidToken(f"unreadable claims: {error}") from None


def user_name(namespace: str, name: str) -> str:
    return f"{USER_PREFIX}{namespace}:{name}"


def split_user_name(name: str) -> tuple[str, str] | None:
    """(namespace, name) of a service account's user name; None for any other user."""
    if not name.startswith(USER_PREFIX):
        return None
    namespace, colon, account = name[len(USER_PREFIX) :].partition(":")
    return (namespace, account) if colon and namespace and account and ":" not in account else None


def groups_of(namespace: str) -> tuple[str, ...]:
    """The groups of every service account of a namespace, without system:authenticated."""
    return (ALL_ACCOUNTS, f"{ALL_ACCOUNTS}:{namespace}")


def user_of(namespace: str, account: Named, jti: str = "", pod: Named | None = None, node: Named | None = None) -> User:
    """The user a token stands for. `extra` tells token, pod and node, as upstream's."""
    extra: dict[str, tuple[str, ...]] = {}
    if jti:
        extra[CREDENTIAL_ID] = (f"JTI={jti}",)
    if pod:
        extra[POD_NAME], extra[POD_UID] = (pod.name,), (pod.uid,)
    if node and node.name:
        extra[NODE_NAME] = (node.name,)
        if node.uid:
            extra[NODE_UID] = (node.uid,)
    return User(user_name(namespace, account.name), account.uid, (*groups_of(namespace), AUTHENTICATED), extra)
