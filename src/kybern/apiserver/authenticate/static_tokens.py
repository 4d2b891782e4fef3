"""Tokens listed in a file (`--token-auth-file`): CSV lines of token, user, uid and optionally "group1,group2".

Read once at start, as upstream does. Source: "Static token file" in the authentication documentation.
"""

from __future__ import annotations

import csv
import hashlib

from kybern.apiserver.authenticate.verdict import AUTHENTICATED, TokenUser, with_group
from kybern.apiserver.request import User


class StaticTokens:
    """Looks tokens up by hash, so that how long it takes tells nothing about them."""

    def __init__(self, content: str) -> None:
        """Raises ValueError naming the line that is wrong."""
        self._users = parse(content)

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        user = self._users.get(_digest(token))
        return TokenUser(user) if user else None


def parse(content: str) -> dict[bytes, User]:
    """User by hash of token."""
    users: dict[bytes, User] = {}
    for number, row in enumerate(csv.reader(content.splitlines(), skipinitialspace=True), 1):
        if not row:
            continue
        fields = [f.strip() for f in row]
        if len(fields) < 3 or not fields[0] or not fields[1]:
            raise ValueError(f"token file, line {number}: expected token,user,uid[,groups] and found {len(row)} fields")
        groups = tuple(g.strip() for g in fields[3].split(",") if g.strip()) if len(fields) > 3 else ()
        if _digest(fields[0]) in users:
            raise ValueError(f"token file, line {number}: the token is listed twice")
        users[_digest(fields[0])] = User(fields[1], fields[2], with_group(groups, AUTHENTICATED))
    return users


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
