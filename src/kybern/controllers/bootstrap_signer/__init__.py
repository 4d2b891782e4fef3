"""ConfigMap kube-public/cluster-info is signed with every bootstrap token, for machines that know nothing but a token.

Who joins reads the kubeconfig there without being known, and believes it if the signature of its own token fits.
Off unless asked for, as upstream. Source: "Authenticating with Bootstrap Tokens" in the documentation.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from collections.abc import Iterable

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap, Secret
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.bootstrap_token_cleaner import TYPE, field_of, is_expired

NAME = "bootstrap-signer-controller"
NAMESPACE, OBJECT, SIGNED = "kube-public", "cluster-info", "kubeconfig"
PREFIX = "jws-kubeconfig-"


def sign(content: str, token_id: str, token_secret: str) -> str:
    """A JWS (RFC 7515) with the content left out: HMAC-SHA256 over what the reader has already."""
    head = codec.encode({"alg": "HS256", "kid": token_id})
    text = f"{_coded(head)}.{_coded(content.encode())}"
    mac = hmac.new(token_secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{_coded(head)}..{_coded(mac)}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def plan_data(data: dict[str, str], tokens: Iterable[Secret], now: datetime.datetime) -> dict[str, str]:
    """What the ConfigMap holds when all that may sign have signed, and nobody else."""
    planned = {key: value for key, value in data.items() if not key.startswith(PREFIX)}
    content = data.get(SIGNED)
    if content is None:
        return planned
    for token in tokens:
        name, secret = field_of(token, "token-id"), field_of(token, "token-secret")
        may_sign = field_of(token, "usage-bootstrap-signing") == "true"
        if may_sign and name and secret and token.metadata.name.endswith(f"-{name}") and not is_expired(token, now):
            planned[f"{PREFIX}{name}"] = sign(content, name, secret)
    return planned


class BootstrapSigner(runtime.Looped):
    """runtime.Controller of one object."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._maps = context.informers.of(ConfigMap, namespace=NAMESPACE, field_selector=f"metadata.name={OBJECT}")
        self._tokens = context.informers.of(Secret, namespace="kube-system", field_selector=f"type={TYPE}")
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._maps)
        self._tokens.on_change(lambda old, new: self.loop.queue.add(f"{NAMESPACE}/{OBJECT}"))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        found = self._maps.get(*shapes.split_key(key))
        if found is None or found.metadata.deletionTimestamp is not None:
            return None
        data = plan_data(found.data, self._tokens.list(), self._context.clock.now())
        if data != found.data:
            fresh = codec.clone(found)
            fresh.data = data
            self._maps.observe(await self._context.client.update(fresh))
        return None


def build(context: runtime.Context) -> BootstrapSigner:
    return BootstrapSigner(context)
