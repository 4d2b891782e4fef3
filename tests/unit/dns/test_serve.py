"""The whole server on loopback, asked by dnspython, by dig and by people who mean no good."""

import asyncio
import contextlib
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from prometheus_client import CollectorRegistry

from kybern.client.clock import RealClock
from kybern.dns.answer import Responder
from kybern.dns.forward import Forwarder
from kybern.dns.metrics import Metrics
from kybern.dns.serve import Server
from kybern.dns.zone import Key, Zone
from kybern.testing.services import endpoint, endpoint_slice, port, service


class FakeForwarder(Forwarder):
    """Others' answers as a dictionary."""

    def __init__(self, addresses: dict[str, str]) -> None:
        super().__init__(RealClock(), random.Random(1))
        self.addresses = addresses
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def resolve(self, packet: bytes, *, is_tcp: bool) -> bytes | None:
        asked = dns.message.from_wire(packet)
        name = asked.question[0].name.to_text().rstrip(".").lower()
        self.asked.append(name)
        await self.gate.wait()
        if name not in self.addresses:
            return None
        answer = dns.message.make_response(asked)
        answer.answer = [dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", self.addresses[name])]
        return answer.to_wire()


class Bench:
    def __init__(self) -> None:
        self.zone = Zone("cluster.local", "10.96.0.10")
        self.zone.set_namespace("default", True)
        self.forwarder = FakeForwarder({"example.com": "192.0.2.7"})
        self.metrics = Metrics(CollectorRegistry())
        self.responder = Responder(self.zone, self.forwarder, random.Random(1), self.metrics)
        self.server: Server

    def put(self, *objects: Any) -> None:
        for obj in objects:
            name = (obj.metadata.namespace, obj.metadata.name)
            if obj.kind == "Service":
                self.zone.set_service(Key(*name), obj)
            else:
                self.zone.set_slice(*name, obj)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            self.server = Server(self.responder, tasks, self.metrics)
            await self.server.start("127.0.0.1", 0)
            try:
                yield
            finally:
                self.server.close()

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, "127.0.0.1", port=self.server.port, timeout=5)


def texts(message: dns.message.Message) -> list[str]:
    return [str(item) for rrset in message.answer for item in rrset]


WEB = service("web", "10.96.0.5", port(80, name="http"))


@pytest.mark.parametrize("tcp", [False, True])
def test_the_clusters_names_are_answered(tcp: bool) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        async with bench.running():
            answer = await bench.ask("WEB.default.svc.Cluster.local", tcp=tcp)
            assert texts(answer) == ["10.96.0.5"]
            assert answer.answer[0].name.to_text() == "WEB.default.svc.Cluster.local."
            missing = await bench.ask("nothing.default.svc.cluster.local", tcp=tcp)
            assert missing.rcode() == dns.rcode.NXDOMAIN
            assert missing.authority[0].rdtype == dns.rdatatype.SOA
            empty = await bench.ask("web.default.svc.cluster.local", "AAAA", tcp=tcp)
            assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
            assert empty.authority[0].rdtype == dns.rdatatype.SOA
            srv = await bench.ask("_http._tcp.web.default.svc.cluster.local", "SRV", tcp=tcp)
            assert texts(srv) == ["0 100 80 web.default.svc.cluster.local."]
            assert str(srv.additional[0][0]) == "10.96.0.5"
            assert texts(await bench.ask("5.0.96.10.in-addr.arpa", "PTR")) == ["web.default.svc.cluster.local."]

    asyncio.run(scenario())


def test_a_change_is_answered_from_the_next_question_on() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        async with bench.running():
            for _ in range(3):
                assert texts(await bench.ask("web.default.svc.cluster.local")) == ["10.96.0.5"]
            assert bench.metrics.kept._value.get() == 2
            bench.put(service("web", "10.96.0.6", port(80)))
            assert texts(await bench.ask("web.default.svc.cluster.local")) == ["10.96.0.6"]

    asyncio.run(scenario())


def test_addresses_of_a_headless_service_come_in_changing_order() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(service("db", "None", port(80)))
        bench.put(endpoint_slice("db", [port(80)], *(endpoint(f"10.244.0.{i}") for i in range(4))))
        async with bench.running():
            firsts = {texts(await bench.ask("db.default.svc.cluster.local"))[0] for _ in range(40)}
            assert len(firsts) == 4

    asyncio.run(scenario())


def test_too_many_addresses_are_cut_over_udp_and_whole_over_tcp() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(service("db", "None", port(80)))
        bench.put(endpoint_slice("db", [port(80)], *(endpoint(f"10.244.1.{i}") for i in range(200))))
        async with bench.running():
            cut = await bench.ask("db.default.svc.cluster.local")
            assert cut.flags & dns.flags.TC
            assert 20 < len(cut.answer[0]) < 40
            more = await bench.ask("db.default.svc.cluster.local", use_edns=0, payload=4096)
            assert more.flags & dns.flags.TC
            assert 60 < len(more.answer[0]) < 80
            whole = await bench.ask("db.default.svc.cluster.local", tcp=True)
            assert len(whole.answer[0]) == 200

    asyncio.run(scenario())


def test_external_names_come_with_the_addresses_behind_them() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        for name, target in [
            ("out", "example.com"),
            ("in", "web.default.svc.cluster.local"),
            ("twice", "out.default.svc.cluster.local"),
            ("self", "self.default.svc.cluster.local"),
            ("lost", "unknown.example.com"),
        ]:
            bench.put(service(name, "", type="ExternalName", externalName=target))
        async with bench.running():

            async def ask(name: str, kind: str = "A") -> list[str]:
                return texts(await bench.ask(f"{name}.default.svc.cluster.local", kind))

            assert await ask("out") == ["example.com.", "192.0.2.7"]
            assert await ask("in") == ["web.default.svc.cluster.local.", "10.96.0.5"]
            assert await ask("twice") == ["out.default.svc.cluster.local.", "example.com.", "192.0.2.7"]
            assert await ask("self") == ["self.default.svc.cluster.local."]
            assert await ask("lost") == ["unknown.example.com."]
            bench.forwarder.asked.clear()
            assert await ask("out", "CNAME") == ["example.com."]
            assert bench.forwarder.asked == []

    asyncio.run(scenario())


def test_other_names_are_asked_elsewhere() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            assert texts(await bench.ask("example.com")) == ["192.0.2.7"]
            assert texts(await bench.ask("example.com", tcp=True)) == ["192.0.2.7"]
            failed = await bench.ask("unknown.example.com")
            assert failed.rcode() == dns.rcode.SERVFAIL
            bench.forwarder.probe_name = ("nonce", "invalid")
            bench.forwarder._probed = "192.0.2.1"
            query = dns.message.make_query("nonce.invalid", "HINFO")
            with pytest.raises(Exception, match="timed out"):
                await dns.asyncquery.udp(query, "127.0.0.1", port=bench.server.port, timeout=0.2)
            assert bench.forwarder._looping == {"192.0.2.1"}

    asyncio.run(scenario())


def test_before_all_is_known_the_clusters_names_are_to_be_asked_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.zone.is_complete = False
        async with bench.running():
            assert (await bench.ask("web.default.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL
            assert texts(await bench.ask("example.com")) == ["192.0.2.7"]
            bench.put(WEB)
            bench.zone.is_complete = True
            assert texts(await bench.ask("web.default.svc.cluster.local")) == ["10.96.0.5"]

    asyncio.run(scenario())


def test_transfers_and_other_classes_are_refused() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            assert (await bench.ask("version.bind", "TXT", rdclass="CH")).rcode() == dns.rcode.REFUSED
            packet = dns.message.make_query("cluster.local", "AXFR").to_wire()
            refused = bench.responder.respond(packet, is_tcp=True)
            assert isinstance(refused, bytes)
            assert refused[3] & 0xF == dns.rcode.REFUSED

    asyncio.run(scenario())


def frame(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


async def read_frame(reader: asyncio.StreamReader) -> dns.message.Message:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return dns.message.from_wire(await reader.readexactly(length))


def test_one_connection_carries_many_questions_in_any_pieces() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        async with bench.running():
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
            queries = [dns.message.make_query("web.default.svc.cluster.local", "A") for _ in range(50)]
            stream = b"".join(frame(q.to_wire()) for q in queries)
            for at in range(0, len(stream), 7):
                writer.write(stream[at : at + 7])
                await asyncio.sleep(0)
            answers = [await read_frame(reader) for _ in queries]
            assert {a.id for a in answers} == {q.id for q in queries}
            writer.close()

    asyncio.run(scenario())


def test_slow_questions_do_not_hold_up_others_and_are_bounded() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        async with bench.running():
            bench.forwarder.gate.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
            slow = [dns.message.make_query("example.com", "A") for _ in range(100)]
            writer.write(frame(slow[0].to_wire()))
            quick = dns.message.make_query("web.default.svc.cluster.local", "A")
            writer.write(frame(quick.to_wire()))
            assert (await read_frame(reader)).id == quick.id
            writer.write(b"".join(frame(q.to_wire()) for q in slow[1:]))
            await asyncio.sleep(0.05)
            assert len(bench.forwarder.asked) == 32
            bench.forwarder.gate.set()
            answers = [await read_frame(reader) for _ in slow]
            assert {a.id for a in answers} == {q.id for q in slow}
            writer.close()

    asyncio.run(scenario())


def test_rubbish_ends_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        rng = random.Random(7)
        async with bench.running():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                good = dns.message.make_query("web.default.svc.cluster.local", "A", use_edns=0).to_wire()
                for _ in range(300):
                    packet = bytearray(good)
                    for _ in range(rng.randrange(4)):
                        packet[rng.randrange(len(packet))] = rng.randrange(256)
                    cut = bytes(packet[: rng.randrange(len(packet) + 1)])
                    sender.sendto(cut, ("127.0.0.1", bench.server.port))
                    await asyncio.sleep(0)
            _, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
            writer.write(frame(b"") + frame(b"x") + rng.randbytes(5000))
            await asyncio.sleep(0.05)
            writer.close()
            assert texts(await bench.ask("web.default.svc.cluster.local")) == ["10.96.0.5"]

    asyncio.run(scenario())


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_finds_names_by_its_search_list(transport: str) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(WEB)
        async with bench.running():

            async def dig(*words: str) -> str:
                command = ["dig", "@127.0.0.1", "-p", str(bench.server.port), transport, "+noall", "+answer", "+short"]
                done = await asyncio.to_thread(
                    subprocess.run, [*command, *words], capture_output=True, text=True, check=True
                )
                return done.stdout.strip()

            assert await dig("web.default.svc.cluster.local") == "10.96.0.5"
            assert await dig("+domain=default.svc.cluster.local", "web") == "10.96.0.5"
            assert await dig("_http._tcp.web.default.svc.cluster.local", "SRV") == (
                "0 100 80 web.default.svc.cluster.local."
            )
            assert await dig("-x", "10.96.0.5") == "web.default.svc.cluster.local."
            assert await dig("dns-version.cluster.local", "TXT") == '"1.1.0"'

    asyncio.run(scenario())
