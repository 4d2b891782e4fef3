"""One packet in, one packet out: looks into the zone, asks others, keeps the zone's answers as bytes.

Fed by serve.py with packets of UDP and TCP; reads zone, asks forward, speaks wire. Promises that the zone's answers
come without waiting, and that every well-formed question gets one.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import dnslib
from dnslib import DNSRecord

from kybern.dns import wire, zone
from kybern.dns.forward import Forwarder
from kybern.dns.metrics import Metrics
from kybern.dns.wire import Malformed, Negative, Question, Rcode
from kybern.dns.zone import Answer, Kind, Outcome, Record, Zone

KEPT = 16384  # answers as bytes
ORDERS = 64  # in which an answer with several records is kept: each begins with another, so that clients spread
LONGEST_CHAIN = 8  # of aliases
_AXFR, _IXFR = 252, 251
_LARGEST_TCP = 65535

Outgoing = bytes | None | Coroutine[Any, Any, bytes | None]


class Responder:
    """Answers for a zone, and for all the rest by asking others."""

    def __init__(
        self, names: Zone, forwarder: Forwarder, rng: random.Random, metrics: Metrics, *, ttl: int = 5
    ) -> None:
        self._zone = names
        self._forwarder = forwarder
        self._rng = rng
        self._metrics = metrics
        self._ttl = ttl
        self._kept: dict[tuple[bool, bytes], list[bytes]] = {}
        self._orders: dict[tuple[bool, bytes], int] = {}  # how many of them there should be
        self._kept_count = 0
        self._kept_version = -1

    def respond(self, packet: bytes, *, is_tcp: bool) -> Outgoing:
        """The answer at once, None where none must be sent, or a coroutine that waits for others."""
        key = (is_tcp, packet[2:])
        if self._kept_version == self._zone.version:
            kept = self._kept.get(key)
            if kept is not None and len(kept) >= self._orders[key]:
                self._metrics.kept.inc()
                return wire.patch_id(kept[0] if len(kept) == 1 else self._rng.choice(kept), packet[:2])
        else:
            self._forget()
            self._kept_version = self._zone.version
        try:
            question = wire.parse(packet)
        except Malformed as malformed:
            return malformed.answer
        return self._answer(question, packet, is_tcp, key)

    def _answer(self, question: Question, packet: bytes, is_tcp: bool, key: tuple[bool, bytes]) -> Outgoing:
        limit = _LARGEST_TCP if is_tcp else question.payload
        if question.klass not in (wire.IN, wire.ANY_CLASS) or question.kind in (_AXFR, _IXFR):
            return self._pack(wire.render(question, Rcode.REFUSED, is_authoritative=False), limit)
        found = self._zone.lookup(question.name, question.kind)
        if found.outcome is Outcome.NOT_OURS:
            if question.name == self._forwarder.probe_name:
                self._forwarder.notice_loop()
                return None
            return self._forward(question, packet, is_tcp)
        if not self._zone.is_complete:
            return self._pack(wire.render(question, Rcode.SERVFAIL, is_authoritative=False), limit)
        if found.chase and question.kind in (Kind.A, Kind.AAAA):
            return self._chase(question, found, limit)
        if self._kept_count >= KEPT:
            self._forget()
        kept = self._kept.setdefault(key, [])
        orders = max(1, min(ORDERS, len(found.records)))
        first = len(kept) * len(found.records) // orders
        answer = self._pack(self._render(question, found, [*found.records[first:], *found.records[:first]]), limit)
        kept.append(answer)
        self._orders[key] = orders
        self._kept_count += 1
        return answer

    def _forget(self) -> None:
        self._kept.clear()
        self._orders.clear()
        self._kept_count = 0

    def _render(self, question: Question, found: Answer, records: list[Record]) -> DNSRecord:
        rcode = Rcode.NXDOMAIN if found.outcome is Outcome.NO_NAME else Rcode.NOERROR
        soa = Negative(self._zone.domain, self._zone.version, self._ttl)
        return wire.render(question, rcode, records, additional=found.additional, ttl=self._ttl, negative=soa)

    def _pack(self, reply: DNSRecord, limit: int) -> bytes:
        self._metrics.count(reply.header.rcode)
        return wire.pack(reply, limit)

    async def _forward(self, question: Question, packet: bytes, is_tcp: bool) -> bytes:
        answer = await self._forwarder.resolve(packet, is_tcp=is_tcp)
        if answer is not None:
            self._metrics.count(answer[3] & 0xF)
            return answer
        reply = wire.render(question, Rcode.SERVFAIL, is_authoritative=False)
        return self._pack(reply, question.payload)

    async def _chase(self, question: Question, found: Answer, limit: int) -> bytes:
        """The alias, and the addresses behind it."""
        reply = self._render(question, found, list(found.records))
        target = found.chase
        seen = {question.name}
        for _ in range(LONGEST_CHAIN):
            name = zone.parse_name(target)
            if name in seen:
                break
            seen.add(name)
            inner = self._zone.lookup(name, question.kind)
            if inner.outcome is Outcome.NOT_OURS:
                for record in await self._ask_others(target, question.kind):
                    reply.add_answer(record)
                break
            known = [Record(r.kind, r.data, r.owner or name) for r in inner.records]
            for record in wire.render(question, Rcode.NOERROR, known, ttl=self._ttl).rr:
                reply.add_answer(record)
            if not inner.chase:
                break
            target = inner.chase
        return self._pack(reply, limit)

    async def _ask_others(self, target: str, kind: int) -> list[dnslib.RR]:
        query = DNSRecord(q=dnslib.DNSQuestion(target, kind))
        answer = await self._forwarder.resolve(bytes(query.pack()), is_tcp=False)
        if answer is None:
            return []
        try:
            records = DNSRecord.parse(answer).rr
        except (dnslib.DNSError, ValueError):
            return []
        return [rr for rr in records if rr.rtype in (Kind.A, Kind.AAAA, Kind.CNAME)]
