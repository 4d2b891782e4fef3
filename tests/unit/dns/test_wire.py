"""Packets: dnspython is the judge of what we send, and chance of what we are sent."""

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybern.dns import wire
from kybern.dns.wire import Malformed, Negative, Rcode
from kybern.dns.zone import Kind, Record, Srv

DOMAIN = ("cluster", "local")
SOA = Negative(DOMAIN, 7, 5)


def query(name: str = "Web.Default.svc.cluster.local", kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def render(packet: bytes, *records: Record, rcode: Rcode = Rcode.NOERROR, limit: int = 65535) -> dns.message.Message:
    reply = wire.render(wire.parse(packet), rcode, records, negative=SOA)
    return dns.message.from_wire(wire.pack(reply, limit))


def test_a_question_is_understood_in_any_spelling() -> None:
    question = wire.parse(query())
    assert question.name == ("web", "default", "svc", "cluster", "local")
    assert (question.kind, question.klass, question.payload, question.has_edns) == (Kind.A, 1, 512, False)
    assert wire.parse(query(use_edns=0, payload=4096)).payload == 1232
    assert wire.parse(query(use_edns=0, payload=100)).payload == 512


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (Kind.A, "10.1.2.3", "10.1.2.3"),
        (Kind.AAAA, "fd00::1", "fd00::1"),
        (Kind.TXT, "1.1.0", '"1.1.0"'),
        (Kind.SRV, Srv(50, 80, ("web", *DOMAIN)), "0 50 80 web.cluster.local."),
        (Kind.CNAME, ("foo", "example", "com"), "foo.example.com."),
        (Kind.PTR, ("web", *DOMAIN), "web.cluster.local."),
        (Kind.NS, ("ns", "dns", *DOMAIN), "ns.dns.cluster.local."),
        (Kind.SOA, (), "ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"),
    ],
)
def test_every_kind_of_record_is_read_back_by_another_library(kind: Kind, data: object, text: str) -> None:
    answer = render(query(kind=kind.name), Record(kind, data))  # type: ignore[arg-type]
    assert [str(item) for item in answer.answer[0]] == [text]
    assert answer.answer[0].rdtype == dns.rdatatype.from_text(kind.name)


def test_answers_keep_the_askers_spelling_id_and_flags() -> None:
    packet = query(use_edns=0)
    answer = render(packet, Record(Kind.A, "10.1.2.3"))
    assert answer.id == struct.unpack_from("!H", packet)[0]
    assert answer.question[0].name.to_text() == "Web.Default.svc.cluster.local."
    assert answer.answer[0].name.to_text() == "Web.Default.svc.cluster.local."
    flags = dns.flags.to_text(answer.flags)
    assert flags == "QR AA RD RA"
    assert answer.edns == 0
    assert answer.payload == 1232
    assert render(query()).edns == -1


def test_no_comes_with_the_zones_soa() -> None:
    answer = render(query(), rcode=Rcode.NXDOMAIN)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
    assert answer.authority[0].ttl == 5


def test_a_long_answer_is_cut_to_what_fits_and_says_so() -> None:
    records = [Record(Kind.A, f"10.1.{i // 250}.{i % 250}") for i in range(500)]
    reply = wire.render(wire.parse(query(use_edns=0)), Rcode.NOERROR, records, negative=SOA)
    packet = wire.pack(reply, 512)
    answer = dns.message.from_wire(packet)
    assert len(packet) <= 512
    assert answer.flags & dns.flags.TC
    assert len(answer.answer[0]) > 20
    assert answer.edns == 0
    whole = dns.message.from_wire(
        wire.pack(wire.render(wire.parse(query()), Rcode.NOERROR, records, negative=SOA), 65535)
    )
    assert len(whole.answer[0]) == 500
    assert not whole.flags & dns.flags.TC


def test_extras_are_left_out_without_a_word() -> None:
    records = [Record(Kind.SRV, Srv(1, 80, (f"web-{i}", *DOMAIN))) for i in range(8)]
    extra = [Record(Kind.A, f"10.1.1.{i}", (f"web-{i}", *DOMAIN)) for i in range(8)]
    reply = wire.render(wire.parse(query(kind="SRV")), Rcode.NOERROR, records, additional=extra, negative=SOA)
    answer = dns.message.from_wire(wire.pack(reply, 512))
    assert len(answer.answer[0]) == 8
    assert answer.additional == []
    assert not answer.flags & dns.flags.TC


def refusal(packet: bytes) -> dns.message.Message | None:
    with pytest.raises(Malformed) as caught:
        wire.parse(packet)
    return dns.message.from_wire(caught.value.answer) if caught.value.answer is not None else None


def test_what_is_no_question_gets_the_right_code_or_nothing() -> None:
    good = bytearray(query())
    assert refusal(b"") is None
    assert refusal(b"\0" * 11) is None
    answer = bytes(good[:2]) + b"\x80" + bytes(good[3:])
    assert refusal(answer) is None
    update = bytearray(good)
    update[2] |= 5 << 3
    refused = refusal(bytes(update))
    assert refused is not None
    assert (refused.rcode(), refused.opcode()) == (dns.rcode.NOTIMP, 5)
    two = bytearray(good)
    two[5] = 2
    for bad in (bytes(two), bytes(good[:-3]), bytes(good[:5]) + b"\0" + bytes(good[6:])):
        refused = refusal(bad)
        assert refused is not None
        assert refused.rcode() == dns.rcode.FORMERR
        assert refused.id == struct.unpack_from("!H", bad)[0]


def test_an_unknown_version_of_edns_is_told_so() -> None:
    refused = refusal(query(use_edns=1))
    assert refused is not None
    assert refused.rcode() == dns.rcode.BADVERS


@settings(max_examples=500)
@given(st.binary(max_size=100))
def test_random_bytes_are_refused_or_understood(packet: bytes) -> None:
    try:
        question = wire.parse(packet)
    except Malformed:
        return
    wire.pack(wire.render(question, Rcode.NXDOMAIN, negative=SOA), 512)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6), st.integers(0, 90))
def test_damaged_questions_are_refused_or_understood(damage: list[tuple[int, int]], length: int) -> None:
    packet = bytearray(query(use_edns=0))
    for at, value in damage:
        packet[at % len(packet)] = value
    try:
        question = wire.parse(bytes(packet[: max(length, 12)]))
    except Malformed:
        return
    wire.pack(wire.render(question, Rcode.NOERROR, [Record(Kind.A, "10.0.0.1")], negative=SOA), 512)


@given(st.binary(max_size=200))
def test_finding_ttls_in_random_bytes_ends(packet: bytes) -> None:
    try:
        places = wire.find_ttls(packet)
    except Malformed:
        return
    assert all(at + 4 <= len(packet) for at in places)


def test_ttls_age() -> None:
    packet = wire.pack(wire.render(wire.parse(query(use_edns=0)), Rcode.NOERROR, [Record(Kind.A, "10.1.2.3")]), 512)
    places = wire.find_ttls(packet)
    assert len(places) == 1
    assert dns.message.from_wire(wire.age_ttls(packet, places, 3)).answer[0].ttl == 2
    assert dns.message.from_wire(wire.age_ttls(packet, places, 30)).answer[0].ttl == 0
