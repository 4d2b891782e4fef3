"""Call a webhook: one POST of JSON, one answer, in time, in size, or a CallFailed that says what went wrong.

Used by admission/webhooks, conversion of custom resources, and the webhooks of authentication, authorization and
audit. Promises: no redirect is followed, and nothing that identifies the API server goes anywhere but to the server
that the configuration names; the call ends within its timeout whatever the other side does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from kybern.apiserver.request import Reader
from kybern.apiserver.webhooks import destination, failure
from kybern.apiserver.webhooks.destination import ClientConfig, Destination
from kybern.apiserver.webhooks.failure import CallFailed
from kybern.apiserver.webhooks.transport import BadTrust, Exchanger, Transport
from kybern.client.http import Disconnected
from kybern.client.kubeconfig import Access

__all__ = ["CallFailed", "WebhookClient"]

# Bytes of an answer: a patch that replaces an object of the largest size, in base64, several times.
ANSWER_LIMIT = 16 << 20


class WebhookClient:
    """The API server's way to its webhooks; one for all of them."""

    def __init__(self, services: Reader, transport: Exchanger | None = None) -> None:
        self._services = services
        self._transport: Exchanger = transport or Transport()

    async def call(
        self,
        config: ClientConfig,
        body: bytes,
        timeout: float,
        *,
        query: str = "",
        user_agent: str = "kube-apiserver-admission",
        limit: int = ANSWER_LIMIT,
    ) -> bytes:
        """The body of the answer (a 2xx one) of a `clientConfig`: url or Service.

        `query` (like `timeout=10s`) is put behind its path. Raises CallFailed.
        """
        url = _with_query(destination.shown_url(config), query)
        try:
            to = destination.of_config(config, self._services)
        except destination.Unresolved as why:
            raise CallFailed(f'Post "{url}": {why}') from None
        headers = (("User-Agent", user_agent),)
        return await self._post(to, _with_query(to.path, query), url, headers, body, timeout, limit)

    async def call_server(
        self,
        access: Access,
        body: bytes,
        timeout: float,
        *,
        query: str = "",
        user_agent: str = "kube-apiserver",
        limit: int = ANSWER_LIMIT,
    ) -> bytes:
        """The same for the server of a kubeconfig, with its credentials. Raises CallFailed."""
        url = _with_query(access.server, query)
        try:
            to = destination.of_url(access.server, access)
            headers = (("User-Agent", user_agent), *_credentials(access))
        except (destination.Unresolved, OSError, ValueError) as why:
            raise CallFailed(f'Post "{url}": {why}') from None
        return await self._post(to, _with_query(to.path, query), url, headers, body, timeout, limit)

    async def get(self, url: str, access: Access, timeout: float, *, limit: int = ANSWER_LIMIT) -> bytes:
        """The body of what is at a URL; `access` says whom to trust. Raises CallFailed."""
        try:
            to = destination.of_url(url, access)
        except (destination.Unresolved, OSError, ValueError) as why:
            raise CallFailed(f'Get "{url}": {why}') from None
        headers = (("User-Agent", "kube-apiserver"),)
        return await self._send("Get", to, to.path, url, headers, b"", timeout, limit)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()

    async def _post(
        self,
        to: Destination,
        target: str,
        url: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        timeout: float,
        limit: int,
    ) -> bytes:
        about = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        return await self._send("Post", to, target, url, (*about, *headers), body, timeout, limit)

    async def _send(
        self,
        verb: str,
        to: Destination,
        target: str,
        url: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        timeout: float,
        limit: int,
    ) -> bytes:
        lines = [
            f"{verb.upper()} {target} HTTP/1.1",
            f"Host: {to.authority}",
            "Accept: application/json, */*",
            *(f"{name}: {value}" for name, value in headers),
        ]
        data = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
        try:
            async with asyncio.timeout(timeout):
                head, answer = await self._transport.exchange(to, data, limit)
        except TimeoutError:
            raise CallFailed(f'{verb} "{url}": context deadline exceeded', is_timeout=True) from None
        except BadTrust as why:
            raise CallFailed(str(why), is_misconfigured=True) from None
        except Disconnected as why:
            raise CallFailed(f'{verb} "{url}": {why}') from None
        if not 200 <= head.status < 300:  # a redirect is a failure as well
            raise CallFailed(failure.says_status(head.status, answer), status=head.status)
        return answer


def _with_query(url: str, query: str) -> str:
    return url if not query else f"{url}{'&' if '?' in url else '?'}{query}"


def _credentials(access: Access) -> tuple[tuple[str, str], ...]:
    """The bearer token of a kubeconfig. Raises OSError, and ValueError for one that is no header."""
    token = access.token
    if access.token_file:
        token = Path(access.token_file).read_text().strip()
    if not token:
        return ()
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token of the kubeconfig cannot be sent")
    return (("Authorization", f"Bearer {token}"),)
