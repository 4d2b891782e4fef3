"""DNS packets: a question out of bytes, an answer into bytes. Sans-IO, on dnslib.

Used by answer.py and forward.py. Promises that no bytes whatever raise anything but `Malformed`, that an answer over
UDP fits what the asker takes (TC set where it had to be cut), and that names come back in the asker's spelling.
Source: RFC 1035, 2308 (negative answers), 6891 (EDNS), 9619 (one question a message).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import dnslib
from dnslib import DNSRecord

from kybern.dns.zone import Kind, Name, Record, Srv

HEADER = 12
LARGEST_UDP = 1232  # octets that pass every path unfragmented (DNS flag day 2020)
SMALLEST_UDP = 512
IN, ANY_CLASS = 1, 255
_OPT = 41
_BADVERS = 16


class Rcode(enum.IntEnum):
    """Answers' codes (RFC 1035)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


class Malformed(Exception):
    """A packet that is no question. `answer` is what to send back, None if nothing should be."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__("malformed DNS packet")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a well-formed query."""

    name: Name  # lower case
    kind: int
    klass: int
    query: DNSRecord
    payload: int  # octets that the asker takes over UDP
    has_edns: bool

    @property
    def text(self) -> str:
        return ".".join(self.name) + "."


def parse(packet: bytes) -> Question:
    """Raises Malformed."""
    if len(packet) < HEADER:
        raise Malformed(None)
    ident, flags, questions = struct.unpack_from("!HHH", packet)
    if flags & 0x8000:
        raise Malformed(None)  # an answer: to answer it would start a game without end
    if flags & 0x7800:
        raise Malformed(_bare(ident, flags, Rcode.NOTIMP))
    if questions != 1:
        raise Malformed(_bare(ident, flags, Rcode.FORMERR))
    try:
        query = DNSRecord.parse(packet)
        name = tuple(label.decode("latin-1").lower() for label in query.q.qname.label)
    except (dnslib.DNSError, ValueError):
        raise Malformed(_bare(ident, flags, Rcode.FORMERR)) from None
    options = [rr for rr in query.ar if rr.rtype == _OPT]
    if len(options) > 1 or sum(len(label) + 1 for label in name) >= 255:
        raise Malformed(_bare(ident, flags, Rcode.FORMERR))
    payload = SMALLEST_UDP
    if options:
        # RFC 6891: class is the payload size, the TTL's second octet the version.
        payload = max(SMALLEST_UDP, min(LARGEST_UDP, options[0].rclass))
        if (options[0].ttl >> 16) & 0xFF:
            reply = _reply(query, Rcode.NOERROR, is_authoritative=False)
            reply.add_ar(dnslib.EDNS0(udp_len=LARGEST_UDP, ext_rcode=_BADVERS >> 4))
            raise Malformed(bytes(reply.pack()))
    return Question(name, query.q.qtype, query.q.qclass, query, payload, bool(options))


def _bare(ident: int, flags: int, rcode: Rcode) -> bytes:
    """A header alone: the opcode and RD of the query, QR, RA."""
    return struct.pack("!HHHHHH", ident, 0x8080 | (flags & 0x7900) | rcode, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Negative:
    """The SOA record that says how long "no" holds."""

    domain: Name
    serial: int
    ttl: int


def render(
    question: Question,
    rcode: Rcode,
    records: Iterable[Record] = (),
    *,
    additional: Iterable[Record] = (),
    ttl: int = 5,
    negative: Negative | None = None,
    is_authoritative: bool = True,
) -> DNSRecord:
    """A reply, ready for `pack`. `negative` is the zone's SOA, for the authority section."""
    reply = _reply(question.query, rcode, is_authoritative=is_authoritative)
    for record in records:
        reply.add_answer(_render_record(record, question, ttl, negative))
    if negative is not None and not reply.rr:
        reply.add_auth(_soa(negative))
    for record in additional:
        reply.add_ar(_render_record(record, question, ttl, negative))
    if question.has_edns:
        reply.add_ar(dnslib.EDNS0(udp_len=LARGEST_UDP))
    return reply


def _reply(query: DNSRecord, rcode: Rcode, *, is_authoritative: bool) -> DNSRecord:
    header = dnslib.DNSHeader(
        id=query.header.id, qr=1, aa=int(is_authoritative), ra=1, rd=query.header.rd, cd=query.header.cd, rcode=rcode
    )
    return DNSRecord(header, q=query.q)


def _render_record(record: Record, question: Question, ttl: int, soa: Negative | None) -> dnslib.RR:
    owner = question.query.q.qname if record.owner is None else _label(record.owner)
    if record.kind is Kind.SOA and soa is not None:
        return _soa(soa)
    return dnslib.RR(owner, int(record.kind), IN, ttl, _render_data(record))


def _render_data(record: Record) -> dnslib.RD:
    match record.kind, record.data:
        case Kind.A, str(address):
            return dnslib.A(address)
        case Kind.AAAA, str(address):
            return dnslib.AAAA(address)
        case Kind.TXT, str(text):
            return dnslib.TXT(text)
        case Kind.SRV, Srv(weight, port, target):
            return dnslib.SRV(0, weight, port, _label(target))
        case Kind.CNAME, tuple(target):
            return dnslib.CNAME(_label(target))
        case Kind.PTR, tuple(target):
            return dnslib.PTR(_label(target))
        case Kind.NS, tuple(target):
            return dnslib.NS(_label(target))
    raise ValueError(f"no rendering of {record}")


def _soa(zone: Negative) -> dnslib.RR:
    primary = _label(("ns", "dns", *zone.domain))
    contact = _label(("hostmaster", *zone.domain))
    times = (zone.serial & 0xFFFFFFFF, 7200, 1800, 86400, zone.ttl)
    return dnslib.RR(_label(zone.domain), int(Kind.SOA), IN, zone.ttl, dnslib.SOA(primary, contact, times))


def _label(name: Name | tuple[object, ...]) -> dnslib.DNSLabel:
    return dnslib.DNSLabel([str(label).encode("latin-1") for label in name])


def pack(reply: DNSRecord, limit: int) -> bytes:
    """The reply in at most `limit` octets: extras go first, then answers, with TC set."""
    packet = bytes(reply.pack())
    if len(packet) <= limit:
        return packet
    options = [rr for rr in reply.ar if rr.rtype == _OPT]
    answers = reply.rr
    reply.ar, reply.auth = options, reply.auth if not answers else []
    packet = bytes(reply.pack())
    low, high = 0, len(answers)  # how many answers fit
    if len(packet) > limit:
        reply.header.tc = 1
        reply.auth = []
        while low < high:
            middle = (low + high + 1) // 2
            reply.rr = answers[:middle]
            if len(reply.pack()) <= limit:
                low = middle
            else:
                high = middle - 1
        reply.rr = answers[:low]
        packet = bytes(reply.pack())
    return packet


def patch_id(packet: bytes, ident: bytes) -> bytes:
    """The packet with another id (two octets)."""
    return ident + packet[2:]


def find_ttls(packet: bytes) -> list[int]:
    """Where in a well-formed answer the TTLs of its records are, but for OPT. Raises Malformed."""
    try:
        questions, answers, authorities, extras = struct.unpack_from("!HHHH", packet, 4)
        at = HEADER
        for _ in range(questions):
            at = _skip_name(packet, at) + 4
        found = []
        for _ in range(answers + authorities + extras):
            at = _skip_name(packet, at)
            (kind,) = struct.unpack_from("!H", packet, at)
            if kind != _OPT:
                found.append(at + 4)
            (length,) = struct.unpack_from("!H", packet, at + 8)
            at += 10 + length
        if at > len(packet):
            raise Malformed(None)
        return found
    except (struct.error, IndexError):
        raise Malformed(None) from None


def _skip_name(packet: bytes, at: int) -> int:
    while True:
        length = packet[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at


def age_ttls(packet: bytes, places: Iterable[int], seconds: int) -> bytes:
    """The packet as it should be sent `seconds` after it came."""
    aged = bytearray(packet)
    for at in places:
        (ttl,) = struct.unpack_from("!I", aged, at)
        struct.pack_into("!I", aged, at, max(0, ttl - seconds))
    return bytes(aged)
