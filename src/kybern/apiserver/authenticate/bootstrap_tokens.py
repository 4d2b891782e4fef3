"""Bootstrap tokens, with which new nodes join: `<id>.<secret>`, kept as Secrets in kube-system.

Source: "Authenticating with Bootstrap Tokens" in the Kubernetes documentation.
"""

from __future__ import annotations

import hmac
import re

from kybern.api import scalars
from kybern.api.core_v1 import Secret
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, InvalidToken, TokenUser, with_group
from kybern.apiserver.request import Reader, User
from kybern.machinery.clock import Clock

SECRET_TYPE = "bootstrap.kubernetes.io/token"
DEFAULT_GROUP = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Judges against the Secret as it is now: deleting it ends the token."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, token_secret = match.groups()
        secret: Secret | None = self._reader.get("secrets", "kube-system", f"bootstrap-token-{token_id}")
        flaw = "there is no such Secret" if secret is None else self._flaw(secret, token_id, token_secret)
        if secret is None or flaw:
            raise InvalidToken(f"bootstrap token {token_id}: {flaw}")
        groups = with_group((DEFAULT_GROUP,), *_extra_groups(secret, token_id), AUTHENTICATED)
        return TokenUser(User(f"system:bootstrap:{token_id}", groups=groups))

    def _flaw(self, secret: Secret, token_id: str, token_secret: str) -> str:
        if secret.metadata.deletionTimestamp:
            return "its Secret is being deleted"
        if secret.type != SECRET_TYPE:
            return "its Secret is of another type"
        if not hmac.compare_digest(secret.data.get("token-secret", b""), token_secret.encode()):
            return "wrong token-secret"
        if _text(secret, "token-id") != token_id:
            return "wrong token-id"
        if _text(secret, "usage-bootstrap-authentication") != "true":
            return "not meant for authentication"
        expiration = _text(secret, "expiration")
        if expiration:
            try:
                ends = scalars.parse_time(expiration)
            except ValueError:
                return "unreadable expiration"
            if ends <= self._clock.now():
                return "expired"
        return ""


def _extra_groups(secret: Secret, token_id: str) -> list[str]:
    groups = [g for g in _text(secret, "auth-extra-groups").split(",") if g]
    wrong = [g for g in groups if not _GROUP.fullmatch(g)]
    if wrong:
        raise InvalidToken(f"bootstrap token {token_id}: not a bootstrap group: {wrong[0]}")
    return groups


def _text(secret: Secret, key: str) -> str:
    return secret.data.get(key, b"").decode(errors="replace")
