"""Pass a request on to a pod, service, node or kubelet, and its answer back.

Called by routes and pods. Bodies of answers are streamed, upgrades are tied through, redirects are not followed.
"""

from __future__ import annotations

import ssl
from typing import Protocol

from kybern.apiserver.proxy import headers, links
from kybern.apiserver.proxy.targets import Target
from kybern.apiserver.request import Answer, Request, Response, Sink, StreamResponse, UpgradeResponse
from kybern.machinery.status import ApiError
from kybern.wire.http1.exchange import AnswerHead, BadAnswer, Exchange, render_request
from kybern.wire.message import RawStream
from kybern.wire.splice import splice

_WITHOUT_BODY = (204, 304)


class Dialer(Protocol):
    """Connects to a target: KubeletDialer, or the aggregator's."""

    async def dial(self, target: Target) -> RawStream:
        """Raises ApiError (503)."""
        ...


async def open_exchange(
    dialer: Dialer, target: Target, method: str, path: str, fields: list[tuple[str, str]], body: bytes
) -> tuple[RawStream, Exchange, AnswerHead]:
    """Send a request; the head of its answer is here. The caller closes the stream. Raises ApiError (400, 503)."""
    try:
        data = render_request(method, path, fields, body)
    except ValueError as fault:
        raise ApiError.bad_request(str(fault)) from None
    raw = await dialer.dial(target)
    try:
        await raw.write(data)
        exchange = Exchange(raw, is_head=method == "HEAD")
        return raw, exchange, await exchange.read_head()
    except (BadAnswer, ConnectionError, ssl.SSLError) as fault:
        raw.close()
        raise ApiError.unavailable(f"error trying to reach service: {fault}") from None
    except BaseException:
        raw.close()
        raise


async def forward(request: Request, dialer: Dialer, target: Target, prefix: str, path: str) -> Answer:
    """The answer of `target` to the request's method, headers and body at `path` (raw, with query).

    `prefix` is the raw path up to and with `/proxy`, for links. Raises ApiError.
    """
    fields = headers.outgoing(request, request.headers.get("host") or target.authority)
    fields += headers.forwarded(request, prefix + path.partition("?")[0])
    raw, exchange, head = await open_exchange(dialer, target, request.method, path, fields, request.body)
    return answer_of(request, raw, exchange, head, prefix, target.authority)


def answer_of(
    request: Request, raw: RawStream, exchange: Exchange, head: AnswerHead, prefix: str, authority: str
) -> Answer:
    """The head and what follows as an Answer; it closes `raw`. `prefix` "" leaves links as they are."""
    passed = headers.incoming(head.headers)
    if head.status == 101:
        if not headers.wants_upgrade(request):
            raw.close()
            raise ApiError.unavailable("error trying to reach service: it switched protocols unasked")

        async def tie(near: RawStream) -> None:
            await splice(near, exchange.take_raw())

        return UpgradeResponse(tie, head.get("upgrade") or request.headers["upgrade"], passed)
    if head.get("location") and prefix:
        passed = tuple(
            (name, links.rewrite_url(value, prefix, authority) if name == "Location" else value)
            for name, value in passed
        )
    content_type = head.get("content-type")
    if head.status in _WITHOUT_BODY:
        raw.close()
        return Response(head.status, b"", content_type, passed)
    is_html = content_type.partition(";")[0].strip().lower() == "text/html"
    rewriter = (
        links.HtmlRewriter(prefix, authority) if prefix and is_html and not head.get("content-encoding") else None
    )

    async def run(sink: Sink) -> None:
        try:
            while part := await exchange.read():
                sink.write(rewriter.feed(part) if rewriter else part)
                await sink.drain()
                if sink.closed:
                    return
            if rewriter:
                sink.write(rewriter.finish())
        except ConnectionError:
            sink.abort()  # cut short: the client must not take it for the whole
        finally:
            raw.close()

    return StreamResponse(run, head.status, content_type, passed)
