"""A SPDY session, by bytes in and events out."""

from __future__ import annotations

import pytest

from kybern.wire.spdy import frames
from kybern.wire.spdy.session import (
    DataReceived,
    Event,
    PeerLeaving,
    PingAnswered,
    ProtocolFault,
    Session,
    StreamAccepted,
    StreamOpened,
    StreamReset,
    WindowOpened,
)


def pass_on(sender: Session, receiver: Session) -> list[Event]:
    return receiver.receive(sender.take_output())


def pair() -> tuple[Session, Session, int]:
    """Client, server, and a stream between them."""
    client, server = Session(is_server=False), Session(is_server=True)
    number = client.open({"streamtype": "stdin"})
    assert pass_on(client, server) == [StreamOpened(number, {"streamtype": "stdin"}, False)]
    server.accept(number)
    assert pass_on(server, client) == [StreamAccepted(number, {})]
    return client, server, number


def test_clients_open_odd_streams_and_servers_even_ones() -> None:
    assert [Session(is_server=False).open({}), Session(is_server=True).open({})] == [1, 2]


def test_data_flows_both_ways_until_both_have_finished() -> None:
    client, server, number = pair()
    client.send(number, b"in", fin=True)
    assert pass_on(client, server) == [DataReceived(number, b"in", True)]
    assert server.is_open(number)
    server.send(number, b"out", fin=True)
    assert pass_on(server, client) == [DataReceived(number, b"out", True)]
    assert not server.is_open(number)
    assert not client.is_open(number)


def test_nothing_is_sent_on_a_stream_that_has_finished() -> None:
    client, _, number = pair()
    client.send(number, b"", fin=True)
    client.take_output()
    client.send(number, b"late")
    assert client.take_output() == b""


def test_a_reset_ends_a_stream_at_both_ends() -> None:
    client, server, number = pair()
    client.reset(number)
    assert pass_on(client, server) == [StreamReset(number, frames.CANCEL)]
    server.send(number, b"late")
    server.reset(number)
    assert server.take_output() == b""


def test_pings_are_answered_and_recognised() -> None:
    client, server, _ = pair()
    number = client.ping()
    assert pass_on(client, server) == []
    assert pass_on(server, client) == [PingAnswered(number)]


def test_leaving_is_announced() -> None:
    client, server, _ = pair()
    server.leave()
    assert pass_on(server, client) == [PeerLeaving(frames.GOAWAY_OK)]


def test_a_peer_that_never_grants_windows_is_not_waited_for() -> None:
    client, server, number = pair()
    for _ in range(10):
        assert client.room(number)
        client.send(number, b"x" * 65536)
    assert sum(len(e.data) for e in pass_on(client, server) if isinstance(e, DataReceived)) == 655_360


def test_windows_are_not_granted_to_a_peer_that_never_spoke_of_them() -> None:
    client, server, number = pair()
    client.send(number, b"x" * 100_000)
    pass_on(client, server)
    server.consumed(number, 100_000)
    assert server.take_output() == b""


def test_a_peer_that_grants_windows_is_heeded_and_granted_some() -> None:
    client, server, number = pair()
    server.receive(frames.render_control(frames.SETTINGS, 0, b"\0\0\0\0"))
    client.send(number, b"x" * 65536)
    pass_on(client, server)
    server.consumed(number, 40_000)
    assert set(map(repr, pass_on(server, client))) == {repr(WindowOpened(number)), repr(WindowOpened(0))}
    assert client.room(number) == 40_000
    client.send(number, b"x" * 40_000)
    assert client.room(number) == 0


def test_late_data_of_a_closed_stream_is_dropped() -> None:
    client, server, number = pair()
    server.reset(number)
    client.send(number, b"late")
    assert pass_on(client, server) == []


@pytest.mark.parametrize(
    "wire",
    [
        frames.render_data(99, b"x", fin=False),
        frames.render_data(0, b"x", fin=False),
        frames.render_control(frames.SYN_STREAM, 0, b"\0\0\0\5"),
        frames.render_control(frames.SYN_STREAM, 0, b"\0\0\0\5\0\0\0\0\0\0no zlib"),
        frames.render_control(frames.PING, 0, b"\0"),
        frames.render_control(frames.RST_STREAM, 0, b"\0\0\0\1"),
        frames.render_control(frames.SETTINGS, 0, b"\0\0\0\xff"),
        b"\x80\x04\0\0\0\0\0\0",
    ],
)
def test_a_broken_protocol_ends_the_session_with_goaway(wire: bytes) -> None:
    _, server, _ = pair()
    with pytest.raises(ProtocolFault):
        server.receive(wire)
    assert server.take_output() == frames.render_goaway(1, frames.GOAWAY_PROTOCOL_ERROR)


def test_a_stream_number_is_used_once_and_by_its_side() -> None:
    for opener in (1, 2):
        client, server, _ = pair()
        block = Session(is_server=False)
        block.open({})
        payload = block.take_output()[18:]
        with pytest.raises(ProtocolFault):
            server.receive(frames.render_syn_stream(opener, payload, fin=False))
        del client


def test_open_streams_are_bounded() -> None:
    client, server = Session(is_server=False), Session(is_server=True)
    for _ in range(1001):
        client.open({})
    assert len(pass_on(client, server)) == 1000
    assert pass_on(server, client) == [StreamReset(2001, frames.REFUSED_STREAM)]
