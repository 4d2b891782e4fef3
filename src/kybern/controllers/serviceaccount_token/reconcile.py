"""Keep legacy token secrets in step with their ServiceAccounts.

Woken by secrets of that type and by accounts. Without a signing key it only deletes what lost its account.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import Any

from kybern.api.core_v1 import Secret, ServiceAccount
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.serviceaccount_token import plan
from kybern.machinery.status import ApiError

NAME = "serviceaccount-token-controller"
INDEX = "account"


class Signer:
    """Signs claims as a JWT. The library is loaded with the first token: most clusters never make one."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def __call__(self, claims: dict[str, object]) -> str:
        import jwt

        key, algorithm, key_id = self._key
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": key_id, "typ": None})

    @functools.cached_property
    def _key(self) -> tuple[Any, str, str]:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_pem_private_key(self._pem, None)
        der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        curves = {256: "ES256", 384: "ES384", 521: "ES512"}
        algorithm = curves[key.curve.key_size] if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        return key, algorithm, key_id


class TokenController:
    """runtime.Controller; keys are those of secrets."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._accounts = context.informers.of(ServiceAccount)
        self._secrets = context.informers.of(Secret, field_selector=f"type={plan.TYPE}")
        self._secrets.add_index(INDEX, lambda s: (f"{s.metadata.namespace}/{plan.account_of(s)}",))
        settings = context.settings
        self._sign = Signer(settings.service_account_key) if settings.service_account_key else None
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        runtime.enqueue_on_change(self.loop, self._secrets)
        self._accounts.on_change(self._account_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _account_changed(self, old: ServiceAccount | None, new: ServiceAccount | None) -> None:
        if old is not None and new is not None:
            return  # only the coming and going of an account matters to its secrets
        for secret in self._secrets.by_index(INDEX, shapes.key_of(new if new is not None else old)):
            self.loop.queue.add(shapes.key_of(secret))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        secret = self._secrets.by_key(key)
        if secret is None or secret.metadata.deletionTimestamp or not plan.account_of(secret):
            return None
        account = self._accounts.get(secret.metadata.namespace, plan.account_of(secret))
        if plan.is_orphaned(secret, account):
            account = await self._ask(secret)  # the informer may be behind: deletion cannot be undone
        if account is None or plan.is_orphaned(secret, account):
            await self._delete(secret)
            return None
        settings = self._context.settings
        if self._sign is None:
            return None
        fresh = plan.plan_secret(secret, account, settings.root_ca, settings.service_account_issuer, self._sign)
        if fresh is not None:
            self._secrets.observe(await self._context.client.update(fresh))
        return None

    async def _ask(self, secret: Secret) -> ServiceAccount | None:
        try:
            return await self._context.client.get(ServiceAccount, secret.metadata.namespace, plan.account_of(secret))
        except ApiError as error:
            if not error.is_not_found:
                raise
            return None

    async def _delete(self, secret: Secret) -> None:
        meta = secret.metadata
        try:
            await self._context.client.delete(
                Secret, meta.namespace, meta.name, uid=meta.uid, resource_version=meta.resourceVersion
            )
        except ApiError as error:
            if not error.is_not_found:
                raise


def build(context: runtime.Context) -> TokenController:
    return TokenController(context)
