"""What passes a proxy and what does not."""

from __future__ import annotations

from kybern.apiserver.proxy import headers
from kybern.apiserver.request import Request


def request(**fields: str) -> Request:
    return Request("GET", "/", "/", {}, {k.replace("_", "-"): v for k, v in fields.items()}, peer="192.0.2.7")


def names(pairs: list[tuple[str, str]]) -> set[str]:
    return {name.lower() for name, _ in pairs}


def test_who_the_client_is_stays_here() -> None:
    sent = headers.outgoing(
        request(
            authorization="Bearer secret",
            x_remote_user="root",
            x_remote_extra_scopes="all",
            impersonate_user="admin",
            impersonate_extra_x="y",
            proxy_authorization="Basic x",
            accept="*/*",
        ),
        "backend",
    )
    assert sent == [("Host", "backend"), ("accept", "*/*")]


def test_fields_about_the_connection_stay_here_also_those_it_names() -> None:
    sent = headers.outgoing(request(connection="close, X-Private", x_private="1", te="trailers", keep_alive="5"), "h")
    assert names(sent) == {"host"}


def test_an_upgrade_is_passed_on_without_tokens() -> None:
    sent = headers.outgoing(
        request(
            connection="Upgrade",
            upgrade="websocket",
            sec_websocket_key="k",
            sec_websocket_protocol="base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io",
        ),
        "h",
    )
    assert ("sec-websocket-protocol", "v4.channel.k8s.io") in sent
    assert sent[-2:] == [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    assert "c2VjcmV0" not in repr(sent)


def test_joined_protocol_versions_are_sent_one_by_one() -> None:
    sent = headers.outgoing(request(x_stream_protocol_version="v4.x, v3.x"), "h")
    assert sent[1:] == [("x-stream-protocol-version", "v4.x"), ("x-stream-protocol-version", "v3.x")]


def test_backends_learn_the_client_and_cannot_be_told_another() -> None:
    asked = request(host="api", x_forwarded_host="evil", x_forwarded_for="198.51.100.1")
    assert "x-forwarded-host" not in names(headers.outgoing(asked, "h"))
    assert headers.forwarded(asked, "/p/x") == [
        ("X-Forwarded-For", "198.51.100.1, 192.0.2.7"),
        ("X-Forwarded-Host", "api"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", "/p/x"),
    ]


def test_answers_lose_what_is_about_the_connection_to_the_backend() -> None:
    passed = headers.incoming(
        (
            ("connection", "x-gone"),
            ("x-gone", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("content-type", "t"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        )
    )
    assert passed == (("Set-Cookie", "a"), ("Set-Cookie", "b"))
