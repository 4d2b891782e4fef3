"""What may be asked of a log."""

from __future__ import annotations

import datetime

import pytest

from kybern.machinery.log_options import LogOptions, parse_options
from kybern.machinery.status import ApiError

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def test_nothing_asked_is_everything() -> None:
    assert parse_options({}, NOW) == LogOptions()


def test_flags_are_true_unless_false() -> None:
    for text, expected in (("", True), ("1", True), ("yes", True), ("false", False), ("False", False), ("0", False)):
        assert parse_options({"follow": [text]}, NOW).follow is expected


def test_since_is_a_moment_either_way() -> None:
    moment = datetime.datetime(2026, 1, 1, 11, 59, tzinfo=datetime.UTC)
    assert parse_options({"sinceSeconds": ["60"]}, NOW).since == moment
    assert parse_options({"sinceTime": ["2026-01-01T12:59:00+01:00"]}, NOW).since == moment
    assert parse_options({"sinceTime": ["2026-01-01T11:59:00Z"]}, NOW).since == moment


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"tailLines": "-1"}, 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}, 422, "at most one of"),
        ({"stream": "Both"}, 422, "Unsupported value"),
        ({"stream": "Stdout", "tailLines": "1"}, 422, "mutually exclusive"),
        ({"tailLines": "x"}, 400, "invalid syntax"),
        ({"tailLines": "1_0"}, 400, "invalid syntax"),
        ({"tailLines": "9" * 30}, 400, "invalid syntax"),
        ({"sinceTime": "yesterday"}, 400, "cannot parse"),
        ({"sinceTime": "2026-01-01"}, 400, "cannot parse"),
        ({"sinceTime": "2026-01-01T00:00:00"}, 400, "cannot parse"),
    ],
)
def test_nonsense_is_refused(query: dict[str, str], code: int, text: str) -> None:
    with pytest.raises(ApiError, match=text) as caught:
        parse_options({name: [value] for name, value in query.items()}, NOW, "web")
    assert caught.value.code == code
