"""Ask other resolvers about names that are not the cluster's, and remember what they said for a while.

Used by answer.py. Promises: a question is given up after `DEADLINE`; equal questions at one moment are asked once;
the cache, the questions under way and the sockets are bounded; what comes from elsewhere than the resolver, or answers
another question, is not believed. A resolver that sends our own questions back to us (a loop) is not asked again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import dnslib
import structlog

from kybern.dns import wire
from kybern.machinery.clock import Clock

PORT = 53
TRY_SECONDS = 2.0  # one resolver, once
DEADLINE = 5.0
UNDER_WAY = 512
CACHED = 4096
LONGEST_LIFE = 30  # seconds in the cache; kubeadm's Corefile: cache 30
AVOID_SECONDS = 10.0  # a resolver that did not answer is asked last for so long

log = structlog.get_logger(__name__)


def parse_resolv_conf(text: str, own: Iterable[str] = ()) -> tuple[str, ...]:
    """The nameservers in order, without those that are ourselves."""
    ours = set(own)
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            address, _, scope = words[1].partition("%")
            try:
                canonical = str(ipaddress.ip_address(address))
            except ValueError:
                continue
            if canonical not in ours:
                found.append(f"{canonical}%{scope}" if scope else canonical)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer, and how it ages."""

    packet: bytes
    ttls: tuple[int, ...]  # places
    came: float  # monotonic
    life: int  # seconds


def life_of(packet: bytes) -> Cached | None:
    """How long an answer may be kept (with `came` zero), None for not at all."""
    try:
        places = tuple(wire.find_ttls(packet))
    except wire.Malformed:
        return None
    flags = struct.unpack_from("!H", packet, 2)[0]
    if flags & 0x0200 or flags & 0xF not in (wire.Rcode.NOERROR, wire.Rcode.NXDOMAIN) or not places:
        return None  # cut, failed, or (a "no" without SOA) not to be kept: RFC 2308
    life = min(LONGEST_LIFE, *(struct.unpack_from("!I", packet, at)[0] for at in places))
    return Cached(packet, places, 0.0, life) if life > 0 else None


def is_answer_to(answer: bytes, query: bytes) -> bool:
    """Whether id and question are those of the query (RFC 5452)."""
    if len(answer) < wire.HEADER or answer[:2] != query[:2] or not answer[2] & 0x80:
        return False
    end = query.find(b"\0", wire.HEADER) + 5  # a question has no compression: the root label ends its name
    if struct.unpack_from("!H", answer, 4)[0] == 0:
        return answer[3] & 0xF in (wire.Rcode.FORMERR, wire.Rcode.NOTIMP, wire.Rcode.REFUSED, wire.Rcode.SERVFAIL)
    return answer[wire.HEADER : end].lower() == query[wire.HEADER : end].lower()


class Forwarder:
    """The resolvers that stand behind us."""

    def __init__(self, clock: Clock, rng: random.Random, servers: tuple[str, ...] = (), port: int = PORT) -> None:
        self.servers = servers
        self._clock = clock
        self._rng = rng
        self._port = port
        self._cache: OrderedDict[tuple[bool, bytes], Cached] = OrderedDict()
        self._under_way: dict[tuple[bool, bytes], asyncio.Future[bytes | None]] = {}
        self._avoid: dict[str, float] = {}
        self._looping: set[str] = set()
        self.probe_name: tuple[str, ...] = ()
        self._probed = ""
        self.hits = 0
        self.failures = 0

    def use(self, servers: tuple[str, ...]) -> None:
        """Ask these from now on."""
        if servers != self.servers:
            self.servers = servers
            self._looping.clear()
            log.info("forwarding", to=servers)

    async def resolve(self, packet: bytes, *, is_tcp: bool) -> bytes | None:
        """The answer to a well-formed query, with the query's id; None if nobody gave one."""
        key = (is_tcp, packet[2:])
        found = self._from_cache(key)
        if found is not None:
            return wire.patch_id(found, packet[:2])
        waiting = self._under_way.get(key)
        if waiting is not None:
            answer = await asyncio.shield(waiting)
            return wire.patch_id(answer, packet[:2]) if answer else None
        if len(self._under_way) >= UNDER_WAY:
            self.failures += 1
            return None
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        answer = None
        try:
            answer = await self._ask_all(packet, is_tcp)
        finally:
            # Also on cancellation: nobody must wait for what will not come.
            del self._under_way[key]
            future.set_result(answer)
        if answer is None:
            self.failures += 1
            return None
        self._keep(key, answer)
        return wire.patch_id(answer, packet[:2])

    # cache
    def _from_cache(self, key: tuple[bool, bytes]) -> bytes | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        age = self._clock.monotonic() - cached.came
        if age >= cached.life:
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        self.hits += 1
        return wire.age_ttls(cached.packet, cached.ttls, int(age))

    def _keep(self, key: tuple[bool, bytes], answer: bytes) -> None:
        fresh = life_of(answer)
        if fresh is None:
            return
        self._cache[key] = Cached(fresh.packet, fresh.ttls, self._clock.monotonic(), fresh.life)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    # resolvers
    async def _ask_all(self, packet: bytes, is_tcp: bool) -> bytes | None:
        last: bytes | None = None
        started = self._clock.monotonic()
        for _ in range(2):
            for server in self._in_order():
                left = DEADLINE - (self._clock.monotonic() - started)
                if left <= 0:
                    return last
                answer = await self._ask(server, packet, is_tcp, min(TRY_SECONDS, left))
                if answer is None:
                    self._avoid[server] = self._clock.monotonic() + AVOID_SECONDS
                    continue
                self._avoid.pop(server, None)
                if answer[3] & 0xF not in (wire.Rcode.SERVFAIL, wire.Rcode.REFUSED):
                    return answer
                last = answer  # perhaps another knows better
            if last is not None:
                break
        return last

    def _in_order(self) -> list[str]:
        now = self._clock.monotonic()
        usable = [s for s in self.servers if s not in self._looping]
        return sorted(usable, key=lambda s: self._avoid.get(s, 0.0) > now)

    async def _ask(self, server: str, packet: bytes, is_tcp: bool, seconds: float) -> bytes | None:
        query = self._rng.randbytes(2) + packet[2:]
        try:
            async with asyncio.timeout(seconds):
                exchange = _exchange_tcp if is_tcp else _exchange_udp
                return await exchange(server, self._port, query)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None

    # loops
    async def probe(self) -> None:
        """Ask each resolver about a name nobody else knows. If the question comes back to us, it forwards to us."""
        for server in [s for s in self.servers if s not in self._looping]:
            nonce = f"{self._rng.getrandbits(64):016x}"
            self.probe_name, self._probed = (nonce, "loop-probe", "kybern", "invalid"), server
            query = bytes(dnslib.DNSRecord.question(".".join(self.probe_name), "HINFO").pack())
            await self._ask(server, query, False, TRY_SECONDS)
            self.probe_name = ()

    def notice_loop(self) -> None:
        """The probe came back."""
        if self._probed not in self._looping:
            log.error("a resolver forwards to us: it is not asked any more", resolver=self._probed)
            self._looping.add(self._probed)


class _Exchange(asyncio.DatagramProtocol):
    """One question, one answer; what is not the answer is ignored."""

    def __init__(self, query: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._query = query

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and is_answer_to(data, self._query):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _exchange_udp(server: str, port: int, query: bytes) -> bytes:
    # A socket a question: its port is a secret that a forger has to guess as well.
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Exchange(query), remote_addr=(server, port))
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()


async def _exchange_tcp(server: str, port: int, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    if not is_answer_to(answer, query):
        raise ConnectionError(f"{server} answered another question")
    return answer
