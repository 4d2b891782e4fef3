"""Asking other resolvers: real sockets on loopback, resolvers that behave as the test says."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Callable
from typing import cast

import dns.flags
import dns.message
import dns.rrset

from kybern.client.clock import RealClock
from kybern.dns import forward
from kybern.dns.forward import Forwarder
from kybern.testing.clock import FakeClock

Behaviour = Callable[[dns.message.Message], list[bytes]]


def query(name: str = "example.com") -> bytes:
    return dns.message.make_query(name, "A").to_wire()


def reply(asked: dns.message.Message, ttl: int = 60, address: str = "192.0.2.7", rcode: int = 0) -> bytes:
    answer = dns.message.make_response(asked)
    answer.set_rcode(rcode)
    if not rcode:
        answer.answer = [dns.rrset.from_text(asked.question[0].name, ttl, "IN", "A", address)]
    return answer.to_wire()


class Resolver(asyncio.DatagramProtocol):
    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        for packet in self.behave(dns.message.from_wire(data)):
            self.transport.sendto(packet, addr)


@contextlib.asynccontextmanager
async def resolver(behave: Behaviour, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[Resolver, int]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Resolver(behave), local_addr=(address, port))
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def address_in(packet: bytes | None) -> str:
    assert packet is not None
    return str(dns.message.from_wire(packet).answer[0][0])


def test_resolvers_are_read_in_order_without_ourselves() -> None:
    text = (
        "search x\nnameserver 192.0.2.1\n nameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver junk\nnameserver\n"
    )
    assert forward.parse_resolv_conf(text, ("10.96.0.10",)) == ("192.0.2.1", "fe80::1%eth0")
    assert forward.parse_resolv_conf("nameserver 192.0.2.1\nnameserver 192.0.2.1") == ("192.0.2.1",)


def test_an_answer_is_kept_while_it_lives_and_ages() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with resolver(lambda asked: [reply(asked, ttl=20)]) as (upstream, port):
            forwarder = Forwarder(clock, random.Random(1), ("127.0.0.1",), port)
            first, second = query(), query()
            answer = await forwarder.resolve(first, is_tcp=False)
            assert answer is not None
            assert answer[:2] == first[:2]
            clock.move(5)
            answer = await forwarder.resolve(second, is_tcp=False)
            assert answer is not None
            assert answer[:2] == second[:2]
            assert dns.message.from_wire(answer).answer[0].ttl == 15
            assert (upstream.asked, forwarder.hits) == (1, 1)
            clock.move(16)
            await forwarder.resolve(query(), is_tcp=False)
            assert upstream.asked == 2

    asyncio.run(scenario())


def test_equal_questions_at_once_are_asked_once() -> None:
    async def scenario() -> None:
        async with resolver(lambda asked: [reply(asked)]) as (upstream, port):
            forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.1",), port)
            packets = [query() for _ in range(20)]
            answers = await asyncio.gather(*(forwarder.resolve(p, is_tcp=False) for p in packets))
            assert [a[:2] for a in answers if a] == [p[:2] for p in packets]
            assert upstream.asked == 1

    asyncio.run(scenario())


def test_forged_answers_are_not_believed() -> None:
    async def scenario() -> None:
        def behave(asked: dns.message.Message) -> list[bytes]:
            other = dns.message.make_query("evil.example.com", "A", id=asked.id)
            true = reply(asked)
            return [
                b"",
                b"x",
                reply(other, address="192.0.2.66"),
                struct.pack("!H", (asked.id + 1) & 0xFFFF) + reply(asked, address="192.0.2.66")[2:],
                asked.to_wire(),
                true,
            ]

        async with resolver(behave) as (_, port):
            forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.1",), port)
            assert address_in(await forwarder.resolve(query(), is_tcp=False)) == "192.0.2.7"

    asyncio.run(scenario())


def test_the_next_resolver_is_asked_when_one_fails_or_says_nothing() -> None:
    async def scenario() -> None:
        async with (
            resolver(lambda asked: [reply(asked, rcode=2)]) as (bad, port),
            resolver(lambda asked: [reply(asked)], "127.0.0.2", port) as (good, _),
        ):
            # Nobody listens on 127.0.0.3: the kernel says so at once.
            forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.3", "127.0.0.1", "127.0.0.2"), port)
            assert address_in(await forwarder.resolve(query(), is_tcp=False)) == "192.0.2.7"
            assert (bad.asked, good.asked) == (1, 1)
            assert forwarder._in_order() == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    asyncio.run(scenario())


def test_nobody_to_ask_or_nobody_who_knows() -> None:
    async def scenario() -> None:
        forwarder = Forwarder(RealClock(), random.Random(1))
        assert await forwarder.resolve(query(), is_tcp=False) is None
        async with resolver(lambda asked: [reply(asked, rcode=5)]) as (upstream, port):
            forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.1",), port)
            refused = await forwarder.resolve(query(), is_tcp=False)
            assert refused is not None
            assert refused[3] & 0xF == 5
            await forwarder.resolve(query(), is_tcp=False)
            assert upstream.asked == 2, "a failure must not be kept"

    asyncio.run(scenario())


def test_questions_by_tcp_are_asked_by_tcp() -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = reply(dns.message.from_wire(await reader.readexactly(length)))
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.1",), port)
        assert address_in(await forwarder.resolve(query(), is_tcp=True)) == "192.0.2.7"
        listener.close()
        await listener.wait_closed()

    asyncio.run(scenario())


def test_what_may_be_kept() -> None:
    asked = dns.message.from_wire(query())
    kept = forward.life_of(reply(asked, ttl=9))
    assert kept is not None
    assert kept.life == 9
    long = forward.life_of(reply(asked, ttl=9000))
    assert long is not None
    assert long.life == forward.LONGEST_LIFE
    cut = dns.message.make_response(asked)
    cut.flags |= dns.flags.TC
    for packet in (reply(asked, ttl=0), reply(asked, rcode=2), reply(asked, rcode=3), cut.to_wire(), b"x"):
        assert forward.life_of(packet) is None


def test_a_resolver_that_asks_us_back_is_left_alone() -> None:
    async def scenario() -> None:
        forwarder: Forwarder

        def behave(asked: dns.message.Message) -> list[bytes]:
            # The resolver forwards to us; our responder sees the name.
            name = tuple(label.decode() for label in asked.question[0].name.labels if label)
            if name == forwarder.probe_name:
                forwarder.notice_loop()
            return [reply(asked, rcode=3)]

        async with resolver(behave) as (upstream, port):
            forwarder = Forwarder(RealClock(), random.Random(1), ("127.0.0.1",), port)
            await forwarder.probe()
            assert await forwarder.resolve(query(), is_tcp=False) is None
            assert upstream.asked == 1
            forwarder.use(())
            forwarder.use(("127.0.0.1",))
            await forwarder.resolve(query(), is_tcp=False)
            assert upstream.asked == 2

    asyncio.run(scenario())
