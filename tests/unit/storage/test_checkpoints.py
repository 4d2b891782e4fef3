"""The WAL is folded into the file beside the writes, and stays short."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import apsw
import pytest

from kybern.storage.interface import Change, Record, Revision, StoreUnavailable
from kybern.storage.log_file import LogFile, Tuning

PAGE = 4096
TUNING = Tuning(checkpoint=16, restart=64)


def written(file: LogFile, number: int) -> int:
    """One row of some pages; the size of the WAL then."""
    revision = Revision(number)
    key = f"/things/{number:06d}"
    file.append([Change(revision, key, Record(key, os.urandom(5 * PAGE), revision, revision), None)])
    return file.path.with_name("kybern.db-wal").stat().st_size


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    made = LogFile(tmp_path / "kybern.db", tuning=TUNING)
    made.load()
    return made


def test_the_wal_stays_short_though_writes_never_pause(file: LogFile) -> None:
    sizes = [written(file, number) for number in range(1, 401)]
    file.close()
    assert max(sizes) < 10 * TUNING.restart * PAGE  # of 2,000 pages and more that were written


def test_what_is_written_is_folded_into_the_file_while_it_is_open(file: LogFile) -> None:
    for number in range(1, 201):
        written(file, number)
    assert file.path.stat().st_size > 200 * 5 * PAGE * 0.5
    file.close()


def test_a_reader_of_an_older_state_keeps_nothing_from_being_written(file: LogFile) -> None:
    written(file, 1)
    reader = apsw.Connection(str(file.path), flags=apsw.SQLITE_OPEN_READONLY)
    reading = reader.execute("BEGIN; SELECT revision FROM log")
    assert next(reading) == (1,)
    long = [written(file, number) for number in range(2, 200)][-1]
    assert reader.execute("SELECT count(*) FROM log").get == 1
    reader.execute("COMMIT")
    reader.close()
    after = [written(file, number) for number in range(200, 400)][-1]
    assert after < 1.5 * long  # it began anew in the same file
    file.close()
    opened = LogFile(file.path)
    assert opened.load().revision == 399
    opened.close()


def test_a_checkpoint_without_room_fails_no_write_and_is_made_up_for(file: LogFile) -> None:
    for number in range(1, 41):
        written(file, number)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The file cannot grow, the WAL hardly: some writes go through, their checkpoints do not.
    room = file.path.with_name("kybern.db-wal").stat().st_size + 30 * PAGE
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    done = 40
    try:
        with pytest.raises(StoreUnavailable):
            while True:
                written(file, done + 1)
                done += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for number in range(done + 1, done + 101):
        written(file, number)
    file.close()
    opened = LogFile(file.path)
    assert opened.load().revision == done + 100
    opened.close()
