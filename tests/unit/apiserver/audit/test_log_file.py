"""The audit log on the disk: rotation by size, age and number."""

from __future__ import annotations

import datetime
from pathlib import Path

from kybern.apiserver.audit.log_file import LogFile, LogOptions, plan_removal
from kybern.apiserver.audit.sinks import Event, Truncating
from kybern.testing.clock import FakeClock

NOW = datetime.datetime(2026, 3, 10, 12, 0, 0, tzinfo=datetime.UTC)


def test_a_full_file_is_put_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    log = LogFile(LogOptions(str(tmp_path / "audit.log"), max_size=1), FakeClock())
    for number in range(30):
        assert log.put(Event({"number": number, "filling": "x" * 100_000}))
    log.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert sum(len(p.read_bytes().splitlines()) for p in files) == 30
    assert all(p.stat().st_size <= 1 << 20 and p.stat().st_mode & 0o777 == 0o600 for p in files)


def test_old_files_are_removed_by_number(tmp_path: Path) -> None:
    log = LogFile(LogOptions(str(tmp_path / "audit.log"), max_size=1, max_backup=2), FakeClock())
    (tmp_path / "audit-notes.log").write_text("not ours")
    for _ in range(60):
        log.put(Event({"filling": "x" * 100_000}))
    log.close()
    assert len(list(tmp_path.iterdir())) == 4
    assert (tmp_path / "audit-notes.log").exists()


def test_old_files_are_removed_by_age() -> None:
    names = [f"audit-2026-03-{day:02d}T12-00-00.000.log" for day in (1, 5, 9)]
    assert plan_removal(names, NOW, max_age=7, max_backup=0) == names[:1]
    assert plan_removal(names, NOW, max_age=0, max_backup=1) == names[:2]
    assert plan_removal(names, NOW, max_age=0, max_backup=0) == []


def test_a_log_is_continued_after_a_restart(tmp_path: Path) -> None:
    for number in range(2):
        log = LogFile(LogOptions(str(tmp_path / "deep/audit.log")), FakeClock())
        log.put(Event({"number": number}))
        log.close()
    assert (tmp_path / "deep/audit.log").read_bytes() == b'{"number":0}\n{"number":1}\n'


def test_events_that_are_too_large_lose_their_objects_or_are_dropped(tmp_path: Path) -> None:
    log = LogFile(LogOptions(str(tmp_path / "audit.log")), FakeClock())
    sink = Truncating(log, 200)
    sink.put(Event({"a": 1, "requestObject": "x" * 300, "annotations": {"k": "v"}}))
    sink.put(Event({"a": "x" * 300}))
    log.close()
    wanted = b'{"a":1,"annotations":{"k":"v","audit.k8s.io/truncated":"true"}}\n'
    assert (tmp_path / "audit.log").read_bytes() == wanted
    assert sink.dropped == 1
