"""Watches go on across the death of the API server (tools/watch_resume, with fewer watchers)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import watch_resume

pytestmark = pytest.mark.thorough


def test_watchers_of_a_server_that_is_killed_miss_and_repeat_nothing(tmp_path: Path) -> None:
    found = watch_resume.trial(tmp_path, watchers=60, kills=2, rate=40, calm=1.0, children=2)
    assert found["faults"] == 0, found["first faults"]
    assert found["least seen"] == found["written"] > 4
    assert found["reopened"] >= 60 * 2
