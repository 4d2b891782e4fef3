"""What a legacy token secret should hold. Pure, but for the signature handed in.

Such secrets are made by users only (since 1.24), bound to their account by an annotation, and never expire.
"""

from __future__ import annotations

from collections.abc import Callable

from kybern.api import codec
from kybern.api.core_v1 import Secret, ServiceAccount

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

Sign = Callable[[dict[str, object]], str]


def account_of(secret: Secret) -> str:
    """The name of the account it is for; "" if it is not such a secret."""
    return secret.metadata.annotations.get(ACCOUNT_NAME, "") if secret.type == TYPE else ""


def is_orphaned(secret: Secret, account: ServiceAccount | None) -> bool:
    """Its account is gone, or another life of that name."""
    if account is None:
        return True
    uid = secret.metadata.annotations.get(ACCOUNT_UID, "")
    return bool(uid) and uid != account.metadata.uid


def claims_of(secret: Secret, account: ServiceAccount, issuer: str) -> dict[str, object]:
    namespace, name = account.metadata.namespace, account.metadata.name
    return {
        "iss": issuer,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.metadata.name,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.metadata.uid,
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }


def plan_secret(secret: Secret, account: ServiceAccount, root_ca: str, issuer: str, sign: Sign) -> Secret | None:
    """The secret as it should be; None if it is."""
    ca, namespace = root_ca.encode(), secret.metadata.namespace.encode()
    is_ours = secret.metadata.annotations.get(ACCOUNT_UID) == account.metadata.uid
    has_ca = not ca or secret.data.get("ca.crt") == ca
    if is_ours and has_ca and secret.data.get("token") and secret.data.get("namespace") == namespace:
        return None
    fresh = codec.clone(secret)
    fresh.metadata.annotations[ACCOUNT_UID] = account.metadata.uid
    if ca:
        fresh.data["ca.crt"] = ca
    fresh.data["namespace"] = namespace
    if not is_ours or not fresh.data.get("token"):
        fresh.data["token"] = sign(claims_of(secret, account, issuer)).encode()
    return fresh
