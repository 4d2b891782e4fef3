"""What an authenticator of tokens may say: this user, not mine, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kybern.apiserver.request import User

AUTHENTICATED = "system:authenticated"


class InvalidToken(Exception):
    """The token is refused. The text is for logs and token reviews, never for the bearer."""


@dataclass(frozen=True, slots=True)
class TokenUser:
    """Whose token it is, and for which of the wanted audiences it is good.

    Authenticators that know nothing of audiences leave them empty: such tokens are for this server only.
    """

    user: User
    audiences: tuple[str, ...] = ()


class TokenAuthenticator(Protocol):
    """One kind of bearer token."""

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        """None: not a token of this kind. Raises InvalidToken: it is, and it is refused."""
        ...


def with_group(groups: tuple[str, ...], *more: str) -> tuple[str, ...]:
    """Groups in order, none twice."""
    return tuple(dict.fromkeys((*groups, *more)))
