"""The webhook client against real TLS servers that behave, and that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from kybern.api.admissionregistration_v1 import ServiceReference, WebhookClientConfig
from kybern.api.core_v1 import Service, ServicePort, ServiceSpec
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.client.kubeconfig import Access, Pem
from kybern.testing.webhooks import Certificate, Script, http, make_certificate, read_request, serving

PAIR = make_certificate("127.0.0.1", "web.hooks.svc")


class Services:
    """The registry's services: one, at `address`."""

    def __init__(self, address: str = "127.0.0.1", port: int = 443, kind: str = "ClusterIP") -> None:
        spec = ServiceSpec(clusterIP=address, type=kind, ports=[ServicePort(port=port)], externalName=address)
        self.service = Service(spec=spec)

    def get(self, resource: str, namespace: str, name: str) -> Any:
        return self.service if (resource, namespace, name) == ("services", "hooks", "web") else None

    def list(self, resource: str, namespace: str | None = None) -> list[Any]:
        return []

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        return []

    def version(self, resource: str) -> int:
        return 0


def config(port: int, path: str = "/check", ca: bytes = PAIR.certificate) -> WebhookClientConfig:
    return WebhookClientConfig(url=f"https://127.0.0.1:{port}{path}", caBundle=ca)


def says(*answers: bytes) -> Script:
    """Answers one after the other, on one connection or on several."""
    left = list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            await read_request(reader)
            writer.write(left.pop(0))
            await writer.drain()
        await reader.read()

    return script


def ask(
    script: Script, *, pair: Certificate = PAIR, timeout: float = 5.0, ca: bytes = b"", limit: int = 1 << 20
) -> bytes:
    """One call of a server that does `script`."""

    async def main() -> bytes:
        async with serving(script, pair) as port:
            client = WebhookClient(Services())
            try:
                asked = config(port, ca=ca or pair.certificate)
                return await client.call(asked, b"{}", timeout, limit=limit)
            finally:
                client.close()

    return asyncio.run(main())


def refusal(script: Script, **options: Any) -> str:
    with pytest.raises(CallFailed) as failed:
        ask(script, **options)
    return str(failed.value)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def test_an_answer_comes_back() -> None:
    assert ask(says(http(200, b'{"ok":1}'))) == b'{"ok":1}'


def test_the_request_is_a_post_of_json_with_the_query_behind_the_path() -> None:
    async def main() -> None:
        heads: list[str] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head, body = await read_request(reader)
            heads.append(head)
            writer.write(http(200, body))

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            assert await client.call(config(port, "/a?b=c"), b"[1]", 5.0, query="timeout=5s") == b"[1]"
        lines = heads[0].split("\r\n")
        assert lines[0] == "POST /a?b=c&timeout=5s HTTP/1.1"
        assert f"Host: 127.0.0.1:{port}" in lines
        assert "Content-Type: application/json" in lines
        assert not any(line.lower().startswith(("authorization", "cookie")) for line in lines)

    run(main)


def test_a_connection_is_kept_for_the_next_call() -> None:
    async def main() -> None:
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while True:
                _, body = await read_request(reader)
                writer.write(http(200, body))

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            for i in range(5):
                assert await client.call(config(port), b"%d" % i, 5.0) == b"%d" % i
            assert connections == 1
            # Another path of one server is another webhook, not another trust.
            await client.call(config(port, "/other"), b"{}", 5.0)
            assert connections == 1
            # Another bundle is: nothing verified under one is used under the other.
            await client.call(config(port, ca=PAIR.certificate + b"\n"), b"{}", 5.0)
            assert connections == 2
            client.close()

    run(main)


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, body = await read_request(reader)
            writer.write(http(200, body))
            await writer.drain()

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            for i in range(3):
                assert await client.call(config(port), b"%d" % i, 5.0) == b"%d" % i
            client.close()

    run(main)


def test_a_service_is_dialled_at_its_cluster_ip_and_called_by_its_name() -> None:
    async def main() -> None:
        heads: list[str] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head, body = await read_request(reader)
            heads.append(head)
            writer.write(http(200, body))

        only_the_name = make_certificate("web.hooks.svc")
        async with serving(script, only_the_name) as port:
            client = WebhookClient(Services("127.0.0.1", port))
            reference = ServiceReference(name="web", namespace="hooks", path="check", port=port)
            asked = WebhookClientConfig(service=reference, caBundle=only_the_name.certificate)
            assert await client.call(asked, b"{}", 5.0) == b"{}"
            client.close()
        assert heads[0].startswith("POST /check HTTP/1.1\r\n")
        assert f"Host: web.hooks.svc:{port}\r\n" in heads[0]

    run(main)


@pytest.mark.parametrize(
    ("services", "name", "port", "why"),
    [
        (Services(), "nobody", None, 'service "nobody" not found'),
        (Services(port=8443), "web", None, 'no service port 443 found for service "web"'),
        (Services("None"), "web", None, 'cannot route to service with ClusterIP "None"'),
    ],
)
def test_a_service_that_leads_nowhere_is_told(services: Services, name: str, port: int | None, why: str) -> None:
    reference = ServiceReference(name=name, namespace="hooks", path="/p", port=port)
    with pytest.raises(CallFailed) as failed:
        asyncio.run(WebhookClient(services).call(WebhookClientConfig(service=reference), b"", 1.0, query="timeout=1s"))
    assert str(failed.value) == f'Post "https://{name}.hooks.svc:443/p?timeout=1s": {why}'


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "file:///etc/passwd", "https://user@127.0.0.1/", "https://h/\r\nX: y"]
)
def test_a_url_that_is_no_plain_https_is_not_called(url: str) -> None:
    with pytest.raises(CallFailed):
        asyncio.run(WebhookClient(Services()).call(WebhookClientConfig(url=url), b"", 1.0))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    asked: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            asked.append(head.split(" ")[1])
            writer.write(http(status, b"", "Location: /elsewhere"))

    refusal(script)
    assert asked == ["/check"]


def test_a_huge_answer_is_cut() -> None:
    assert "too long" in refusal(says(http(200, b"x" * 5000)), limit=4000)


def test_endless_headers_are_cut() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(400):
            writer.write(b"X-More: " + b"y" * 60_000 + b"\r\n")
            await writer.drain()

    assert "too long" in refusal(script)


def test_a_header_without_end_is_cut() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nX-More: ")
        for _ in range(400):
            writer.write(b"y" * 60_000)
            await writer.drain()

    assert "too long" in refusal(script)


def test_endless_trailers_are_cut() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        for _ in range(400):
            writer.write(b"X-More: " + b"y" * 60_000 + b"\r\n")
            await writer.drain()

    refusal(script)


def test_endless_announcements_are_cut() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for _ in range(400):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"y" * 6000 + b"\r\n\r\n")
            await writer.drain()

    assert "too long" in refusal(script)


def test_an_announcement_before_the_answer_is_passed_over() -> None:
    assert ask(says(b"HTTP/1.1 100 Continue\r\n\r\n" + http(200, b"{}"))) == b"{}"


def test_a_slow_drip_ends_with_the_timeout() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    assert refusal(script, timeout=0.1).endswith('": context deadline exceeded')


def test_silence_ends_with_the_timeout() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert refusal(script, timeout=0.1).endswith('": context deadline exceeded')


def test_a_second_answer_belongs_to_nobody() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await read_request(reader)
                writer.write(http(200, body) + http(200, b'"forged"'))

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            for i in range(3):
                assert await client.call(config(port), b"%d" % i, 5.0) == b"%d" % i
            client.close()

    run(main)


def test_a_second_answer_that_comes_late_ends_the_connection() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await read_request(reader)
                writer.write(http(200, body))
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(http(200, b'"forged"'))
                await writer.drain()

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            for i in range(3):
                assert await client.call(config(port), b"%d" % i, 5.0) == b"%d" % i
                await asyncio.sleep(0.05)
            client.close()

    run(main)


def test_what_is_no_http_is_told() -> None:
    assert "does not speak HTTP/1.1" in refusal(says(b"SSH-2.0-OpenSSH_9.2\r\n"))


def test_an_answer_cut_short_is_a_failure() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"allowed":')

    assert "connection" in refusal(script)


def test_an_unasked_upgrade_is_a_failure() -> None:
    refusal(says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))


def test_a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("a request was sent")

    other = make_certificate("127.0.0.1")
    said = refusal(script, ca=other.certificate)
    assert said.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")


def test_a_certificate_for_another_name_is_refused() -> None:
    assert "x509: cannot validate certificate for 127.0.0.1" in refusal(says(), pair=make_certificate("elsewhere.svc"))


def test_a_common_name_does_not_count() -> None:
    assert "x509" in refusal(says(), pair=make_certificate())


def test_an_expired_certificate_is_refused() -> None:
    assert "expired" in refusal(says(), pair=make_certificate("127.0.0.1", days=-1))


@pytest.mark.parametrize(
    "bundle", [b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", b"\xff"]
)
def test_a_bundle_that_holds_no_certificate_is_told(bundle: bytes) -> None:
    assert "unable to load root certificates" in refusal(says(), ca=bundle)


def test_nobody_listening_is_told_in_upstreams_words() -> None:
    async def main() -> None:
        async with serving(says(), PAIR) as port:
            pass
        with pytest.raises(CallFailed) as failed:
            await WebhookClient(Services()).call(config(port), b"", 5.0, query="timeout=5s")
        assert str(failed.value) == (
            f'Post "https://127.0.0.1:{port}/check?timeout=5s": dial tcp 127.0.0.1:{port}: connect: connection refused'
        )

    run(main)


def test_a_client_certificate_and_a_token_go_to_the_server_of_a_kubeconfig() -> None:
    async def main() -> None:
        heads: list[str] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head, body = await read_request(reader)
            heads.append(head)
            writer.write(http(200, body))

        mine = make_certificate("client")
        async with serving(script, PAIR, client_ca=mine.certificate) as port:
            access = Access(
                f"https://127.0.0.1:{port}/authenticate",
                ca=Pem(data=PAIR.certificate),
                certificate=Pem(data=mine.certificate),
                key=Pem(data=mine.key),
                token="abc",
            )
            client = WebhookClient(Services())
            assert await client.call_server(access, b"{}", 5.0) == b"{}"
            client.close()
        assert "Authorization: Bearer abc\r\n" in heads[0]
        assert heads[0].startswith("POST /authenticate HTTP/1.1\r\n")

    run(main)


def test_calls_at_once_use_connections_of_their_own() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await read_request(reader)
                await asyncio.sleep(0.01)
                writer.write(http(200, body))

        async with serving(script, PAIR) as port:
            client = WebhookClient(Services())
            bodies = [b"%d" % i for i in range(20)]
            assert await asyncio.gather(*(client.call(config(port), b, 5.0) for b in bodies)) == bodies
            client.close()

    run(main)
