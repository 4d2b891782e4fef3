"""Tokens listed in a file (`--token-auth-file`): CSV lines of token, user, uid and optionally "group1,group2".

Read once at start, as upstream does. Source: "Static token file" in the authentication documentation.
"""

from __future__ import annotations

import csv

from kybern.apiserver.authenticate.verdict import AUTHENTICATED, TokenUser, with_group
from kybern.apiserver.request import User


class StaticTokens:
    """Looks tokens up in a dictionary: its hashes are keyed, so that how long it takes tells nothing about them."""

    def __init__(self, content: str) -> None:
        """Raises ValueError naming the line that is wrong."""
        self._users = parse(content)

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        return self._users.get(token)


def parse(content: str) -> dict[str, TokenUser]:
    """User by token."""
    users: dict[str, TokenUser] = {}
    for number, row in enumerate(csv.reader(content.splitlines(), skipinitialspace=True), 1):
        if not row:
            continue
        fields = [f.strip() for f in row]
        if len(fields) < 3 or not fields[0] or not fields[1]:
            raise ValueError(f"token file, line {number}: expected token,user,uid[,groups] and found {len(row)} fields")
        groups = tuple(g.strip() for g in fields[3].split(",") if g.strip()) if len(fields) > 3 else ()
        if fields[0] in users:
            raise ValueError(f"token file, line {number}: the token is listed twice")
        users[fields[0]] = TokenUser(User(fields[1], fields[2], with_group(groups, AUTHENTICATED)))
    return users
