"""The REST client: paths, errors, retries (on the fake API), and bytes (against a scripted peer on a real socket)."""

import asyncio
import contextlib
import datetime
import ssl

import pytest

from kybern.api.apps_v1 import Deployment
from kybern.api.core_v1 import Binding, ConfigMap, Namespace, ObjectReference, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.client import http, kubeconfig, rest, shapes
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery import scheme
from kybern.machinery.status import ApiError
from kybern.pki import certificates
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi


def on_fake(scenario):
    async def main(clock):
        api = FakeApi(clock)
        return await scenario(api, api.client(), clock)

    return virtual.run(main)


@pytest.mark.parametrize(
    ("kind", "args", "path"),
    [
        (Pod, ("ns", "a"), "/api/v1/namespaces/ns/pods/a"),
        (Pod, (), "/api/v1/pods"),
        (Namespace, ("", "x"), "/api/v1/namespaces/x"),
        (Deployment, ("ns", "d", "status"), "/apis/apps/v1/namespaces/ns/deployments/d/status"),
        (Pod, ("ns", "../../secrets", ""), "/api/v1/namespaces/ns/pods/..%2F..%2Fsecrets"),
        (Pod, ("a b?c", ""), "/api/v1/namespaces/a%20b%3Fc/pods"),
    ],
)
def test_paths_are_those_of_the_api_and_names_cannot_leave_them(kind, args, path):
    assert rest.path_of(shapes.of(kind).resource, *args) == path


def test_typed_objects_go_and_come_back():
    async def scenario(api, client, clock):
        made = await client.create(
            ConfigMap(metadata=ObjectMeta(generateName="c-", namespace="default"), data={"a": "1"})
        )
        patched = await client.patch(ConfigMap, "default", made.metadata.name, {"data": {"b": "2"}})
        patched.data["c"] = "3"
        updated = await client.update(patched)
        listed = await client.list(ConfigMap, "default")
        raw = await client.get(scheme.resource_for("", "v1", "configmaps"), "default", made.metadata.name)
        with pytest.raises(ApiError) as stale:
            await client.update(made)
        gone = await client.delete(ConfigMap, "default", made.metadata.name, uid=made.metadata.uid)
        with pytest.raises(ApiError) as missing:
            await client.get(ConfigMap, "default", made.metadata.name)
        return (
            updated.data,
            [o.data for o in listed.items],
            raw["data"],
            stale.value.is_conflict,
            gone,
            missing.value.code,
        )

    data = {"a": "1", "b": "2", "c": "3"}
    assert on_fake(scenario) == (data, [data], data, True, None, 404)


def test_a_binding_goes_to_its_pod_and_comes_back_itself():
    async def scenario(api, client, clock):
        api.put(Pod(metadata=ObjectMeta(name="p", namespace="default")))
        binding = Binding(
            metadata=ObjectMeta(name="p", namespace="default"), target=ObjectReference(kind="Node", name="n")
        )
        answer = await client.create(binding, subresource="binding", name="p")
        return answer is binding, api.get(Pod, "default", "p").spec.nodeName

    assert on_fake(scenario) == (True, "n")


def test_what_the_server_turns_away_is_asked_again_when_it_says():
    async def scenario(api, client, clock):
        api.fail_next("create configmaps", ApiError.too_many_requests("slow down", 7), times=2)
        await client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
        return clock.monotonic(), len(api.calls)

    assert on_fake(scenario) == (14.0, 3)


def test_a_lost_connection_is_retried_for_reads_and_never_for_writes():
    async def scenario(api, client, clock):
        api.put(ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
        api.fail_next("get configmaps", http.Disconnected("cut"), times=2)
        found = await client.get(ConfigMap, "default", "c")
        api.fail_next("patch configmaps", http.Disconnected("cut"))
        with pytest.raises(ApiError) as error:
            await client.patch(ConfigMap, "default", "c", {"data": {"a": "b"}})
        api.fail_next("patch configmaps", http.Disconnected("refused", unsent=True))
        patched = await client.patch(ConfigMap, "default", "c", {"data": {"a": "b"}})
        return found.metadata.name, error.value.code, patched.data

    assert on_fake(scenario) == ("c", 503, {"a": "b"})


def test_retries_end():
    async def scenario(api, client, clock):
        api.fail_next("get configmaps", http.Disconnected("cut"), times=100)
        with pytest.raises(ApiError) as error:
            await client.get(ConfigMap, "default", "c")
        return error.value.code, len(api.calls)

    assert on_fake(scenario) == (503, rest.READ_ATTEMPTS)


def test_an_expired_watch_says_so():
    async def scenario(api, client, clock):
        api.put(ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
        api.compact()
        with pytest.raises(ApiError) as error:
            async for _ in client.watch(ConfigMap, resource_version="1"):
                pass
        return error.value.is_expired

    assert on_fake(scenario)


def test_lines_are_cut_where_they_end_wherever_the_parts_do():
    async def parts(texts):
        for text in texts:
            yield text

    async def main(clock):
        stream = b'{"a":1}\n\n{"b":"\xc3\xa9"}\n{"c":3}\n{"cut off'
        results = []
        for size in (1, 2, 3, 7, 100):
            pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
            results.append([line async for line in rest.lines_of(parts(pieces))])
        return results

    for found in virtual.run(main):
        assert found == [b'{"a":1}', '{"b":"é"}'.encode(), b'{"c":3}']


# against a peer that says exactly this, on a real socket


class Hasty(RealClock):
    """Does not wait between attempts."""

    async def sleep(self, seconds):
        await asyncio.sleep(0)


class Peer:
    """A server that answers the n-th request with the n-th script: parts of bytes; None hangs up."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.connections = 0

    async def __call__(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while self.scripts:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"content-length")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                for part in self.scripts.pop(0):
                    if part is None:
                        writer.close()
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()


def with_peer(peer, scenario, **access):
    async def main():
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = RestClient(kubeconfig.Access(server=f"http://127.0.0.1:{port}/prefix", **access), Hasty())
        try:
            return await asyncio.wait_for(scenario(client), 20)
        finally:
            client.close()
            server.close()

    return asyncio.run(main())


def ok(body, extra=b""):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s" % (len(body), extra, body)


CONFIG = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c"},"newField":1,"data":{"a":"b"}}'


def test_a_request_says_who_and_what_and_a_connection_is_used_again():
    peer = Peer([ok(CONFIG)], [ok(CONFIG)])

    async def scenario(client):
        first = await client.get(ConfigMap, "n", "c")
        await client.patch(ConfigMap, "n", "c", {"data": {}})
        return first.data

    assert with_peer(peer, scenario, token="secret") == {"a": "b"}
    assert peer.connections == 1
    head = peer.requests[0].lower()
    assert head.startswith(b"get /prefix/api/v1/namespaces/n/configmaps/c http/1.1\r\n")
    assert b"authorization: bearer secret" in head and b"user-agent: kybern" in head
    assert b"content-type: application/merge-patch+json" in peer.requests[1]


def test_an_answer_in_many_small_chunks_is_put_together():
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(CONFIG[i : i + 3]), CONFIG[i : i + 3]) for i in range(0, len(CONFIG), 3))
    whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    peer = Peer([whole[i : i + 5] for i in range(0, len(whole), 5)])

    async def scenario(client):
        return (await client.get(ConfigMap, "n", "c")).data

    assert with_peer(peer, scenario) == {"a": "b"}


def test_a_connection_that_the_server_closes_is_not_used_again():
    peer = Peer([ok(CONFIG, b"connection: close\r\n"), None], [ok(CONFIG)])

    async def scenario(client):
        await client.get(ConfigMap, "n", "c")
        await client.get(ConfigMap, "n", "c")

    with_peer(peer, scenario)
    assert peer.connections == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x00\xa5\x01",
    ],
)
def test_a_peer_that_speaks_something_else_is_an_api_error(garbage):
    peer = Peer(*[[garbage, None]] * rest.READ_ATTEMPTS)

    async def scenario(client):
        with pytest.raises(ApiError) as error:
            await client.get(ConfigMap, "n", "c")
        return error.value.code

    assert with_peer(peer, scenario) == 503


@pytest.mark.parametrize(
    ("answer", "code", "reason", "message"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope", 403, "Forbidden", "nope"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", 502, "InternalError", "502"),
        (b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\n{}", 409, "Conflict", "409"),
    ],
)
def test_an_error_without_a_status_is_made_into_one(answer, code, reason, message):
    async def scenario(client):
        with pytest.raises(ApiError) as error:
            await client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="n")))
        return error.value.code, error.value.reason, message in str(error.value)

    assert with_peer(Peer([answer]), scenario) == (code, reason, True)


def test_a_body_that_is_no_object_is_an_api_error():
    async def scenario(client):
        with pytest.raises(ApiError) as error:
            await client.get(ConfigMap, "n", "c")
        return error.value.code

    assert with_peer(Peer([ok(b"<html>")]), scenario) == 500


def test_a_watch_that_is_cut_short_is_an_api_error_after_its_events():
    event = b'{"type":"ADDED","object":' + CONFIG + b"}\n"
    body = b"%x\r\n%s\r\n" % (len(event), event)
    peer = Peer([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body, None])

    async def scenario(client):
        seen = []
        with pytest.raises(ApiError) as error:
            async for found in client.watch(ConfigMap):
                seen.append(found.type)
        return seen, error.value.code

    assert with_peer(peer, scenario) == (["ADDED"], 503)


def test_nobody_listening_is_an_api_error():
    async def main():
        client = RestClient(kubeconfig.Access(server="http://127.0.0.1:1"), Hasty())
        with pytest.raises(ApiError) as error:
            await client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="n")))
        return error.value.code, str(error.value)

    code, message = asyncio.run(main())
    assert code == 503 and "connecting to 127.0.0.1:1" in message


def test_a_reader_that_stops_reading_stops_the_sender():
    part = b"x" * 65536
    sent = []

    async def peer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            for _ in range(2000):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
                sent.append(len(part))
        writer.close()

    async def scenario(client):
        async with client.stream("GET", "/logs") as parts:
            await anext(parts)
            await asyncio.sleep(0.3)
        return sum(sent)

    assert with_peer(peer, scenario) < 64 << 20


def test_a_token_file_is_read_again(tmp_path):
    file = tmp_path / "token"
    file.write_text("one\n")

    async def main(clock):
        api = FakeApi(clock)
        seen = []
        original = api.exchange

        class Wire:
            authority, base_path = "fake", ""

            async def exchange(self, data, timeout):
                seen.append(data.split(b"Bearer ")[1].split(b"\r\n")[0])
                return await original(data, timeout)

        client = RestClient(kubeconfig.Access(server="http://fake", token_file=str(file)), clock, wire=Wire())
        await client.list(ConfigMap)
        file.write_text("two\n")
        await client.list(ConfigMap)
        await clock.sleep(61)
        await client.list(ConfigMap)
        file.unlink()
        await clock.sleep(61)
        await client.list(ConfigMap)
        return seen

    assert virtual.run(main) == [b"one", b"one", b"two", b"two"]


# TLS


NOW = datetime.datetime.now(datetime.UTC)


def issue(name, issuer=None, **profile):
    return certificates.issue(certificates.Profile(name, **profile), issuer, NOW, certificates.generate_key())


CA = issue("ca", is_ca=True)
SERVER = issue("server", CA, server=True, addresses=("127.0.0.1",))


def with_tls(tmp_path, access, scenario, server=SERVER):
    """A server that wants a certificate of CA and answers with the name in it; `scenario(client)`."""
    (tmp_path / "ca.pem").write_bytes(CA.certificate_pem)
    (tmp_path / "chain.pem").write_bytes(server.certificate_pem + server.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "chain.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader, writer):
        subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            body = CONFIG.replace(b'"b"', b'"%s"' % subject["commonName"].encode())
            writer.write(ok(body, b"connection: close\r\n"))
        writer.close()

    async def main():
        listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        client = RestClient(access(url), Hasty())
        try:
            return await asyncio.wait_for(scenario(client), 20)
        finally:
            client.close()
            listening.close()

    return asyncio.run(main())


def test_client_certificates_are_shown_and_renewed_ones_are_used_without_a_restart(tmp_path):
    def write(name):
        pair = issue(name, CA, client=True)
        (tmp_path / "client.crt").write_bytes(pair.certificate_pem)
        (tmp_path / "client.key").write_bytes(pair.key_pem)

    def access(url):
        pem = kubeconfig.Pem
        certificate, key = pem(file=str(tmp_path / "client.crt")), pem(file=str(tmp_path / "client.key"))
        return kubeconfig.Access(url, ca=pem(data=CA.certificate_pem), certificate=certificate, key=key)

    async def scenario(client):
        first = (await client.get(ConfigMap, "n", "c")).data["a"]
        write("renewed")
        return first, (await client.get(ConfigMap, "n", "c")).data["a"]

    write("first")
    assert with_tls(tmp_path, access, scenario) == ("first", "renewed")


@pytest.mark.parametrize(
    ("server", "client_ca", "message"),
    [
        (issue("other", CA, server=True, names=("elsewhere",)), CA, "127.0.0.1"),
        (SERVER, issue("stranger", is_ca=True), "certificate verify failed"),
    ],
)
def test_a_server_that_is_not_the_one_meant_is_refused(tmp_path, server, client_ca, message):
    def access(url):
        return kubeconfig.Access(url, ca=kubeconfig.Pem(data=client_ca.certificate_pem))

    async def scenario(client):
        with pytest.raises(ApiError) as error:
            await client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="n")))
        return str(error.value)

    assert message in with_tls(tmp_path, access, scenario, server)
