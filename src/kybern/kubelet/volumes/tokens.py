"""Service account tokens of pods: asked for once, renewed when four fifths of their life are over.

Used by content (projected volumes). Source: "Configure Service Accounts for Pods: ServiceAccount token volume".
"""

from __future__ import annotations

from dataclasses import dataclass

from kybern.api import scalars
from kybern.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from kybern.api.core_v1 import Pod
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock

RENEW_AT = 0.8
LONGEST = 24 * 3600.0  # renewed after this at the latest


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: float  # monotonic
    expires_at: float


class TokenSource:
    """Tokens by pod, service account, audience and lifetime."""

    def __init__(self, client: RestClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], _Token] = {}

    async def token(self, pod: Pod, audience: str, lifetime: int) -> str:
        """A token with at least a fifth of its life left, if the server can be reached. Raises ApiError."""
        key = (pod.metadata.uid, audience, lifetime)
        known = self._tokens.get(key)
        if known is not None and self._clock.monotonic() < known.renew_at:
            return known.text
        request = TokenRequest(
            spec=TokenRequestSpec(
                audiences=[audience] if audience else [],
                expirationSeconds=lifetime,
                boundObjectRef=BoundObjectReference(
                    kind="Pod", apiVersion="v1", name=pod.metadata.name, uid=pod.metadata.uid
                ),
            )
        )
        answer = await self._client.create(
            request,
            subresource="token",
            name=pod.spec.serviceAccountName or "default",
            namespace=pod.metadata.namespace,
        )
        now = self._clock.monotonic()
        left = float(lifetime)
        if answer.status.expirationTimestamp:
            left = (scalars.parse_time(answer.status.expirationTimestamp) - self._clock.now()).total_seconds()
        # The server may lengthen a token's life; the pod still gets a fresh one as often as it asked for.
        life = min(left, float(lifetime)) if left > 0 else float(lifetime)
        self._tokens[key] = _Token(answer.status.token or "", now + min(life * RENEW_AT, LONGEST), now + left)
        return self._tokens[key].text

    def renew_in(self, uid: str) -> float | None:
        """Seconds until a token of the pod should be renewed; None when it has none."""
        now = self._clock.monotonic()
        return min((t.renew_at - now for key, t in self._tokens.items() if key[0] == uid), default=None)

    def forget(self, uid: str) -> None:
        for key in [k for k in self._tokens if k[0] == uid]:
            del self._tokens[key]
