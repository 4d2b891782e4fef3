"""A disk that remembers every write and every sync, so that each moment can be replayed as a power failure.

`RecordingDisk` is a SQLite VFS over the real one: files are written as ever, and everything that is done to them is
noted. `Replay` walks through the notes and lays out, at any of them, the files as a crash there may leave them: what
was synced is there; of what was written since, nothing, everything, or a part, of which some blocks are torn.
Used by the crash tests of the store and by tools/crash_store.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import apsw

SECTOR = 512  # bytes a disk writes as one; a torn write ends at a border of them

Kind = Literal["write", "truncate", "sync", "delete"]
Fate = Literal["nothing", "everything", "part"]  # of what was not synced
FATES: tuple[Fate, ...] = ("nothing", "everything", "part")


@dataclass(frozen=True, slots=True)
class Step:
    """One call that changes what is on the disk, or makes it durable."""

    kind: Kind
    file: str  # name, without its folder
    at: int = 0  # offset of a write, size after a truncate, number of steps done when a sync was asked for
    data: bytes = b""


class RecordingDisk(apsw.VFS):  # type: ignore[misc, unused-ignore]
    """Registered under `name` while it lives; `unregister` it."""

    def __init__(self, name: str) -> None:
        self.steps: list[Step] = []
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _RecordingFile(self.steps, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.steps.append(Step("delete", Path(filename).name))


class _RecordingFile(apsw.VFSFile):  # type: ignore[misc, unused-ignore]
    def __init__(self, steps: list[Step], name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._steps = steps
        self._name = Path(path or "temporary").name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._steps.append(Step("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._steps.append(Step("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:
        asked = len(self._steps)  # other threads go on writing, which this sync need not see
        super().xSync(flags)
        self._steps.append(Step("sync", self._name, asked))


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Step]] = field(default_factory=list)  # since the last sync, by their numbers


class Replay:
    """The disk after each step in turn. `files` are those that were there before the first."""

    def __init__(self, steps: list[Step], files: dict[str, bytes]) -> None:
        self._steps = steps
        self._files = {name: _File(bytearray(data)) for name, data in files.items()}

    def __iter__(self) -> Iterator[int]:
        """How many steps were done, from 0 on; between two of them `lay_out` shows that moment."""
        yield 0
        for number, step in enumerate(self._steps, 1):
            self._do(number - 1, step)
            yield number

    def lay_out(self, folder: Path, fate: Fate, rng: random.Random) -> None:
        """Write the files into `folder` as a crash now may leave them."""
        for name, file in self._files.items():
            content = bytearray(file.durable)
            for _, step in file.pending:
                if fate == "everything":
                    _apply(content, step)
                elif fate == "part":
                    _apply_part(content, step, rng)
            (folder / name).write_bytes(content)

    def _do(self, number: int, step: Step) -> None:
        if step.kind == "delete":
            # The store's own folder is synced with it: what is deleted stays so.
            self._files.pop(step.file, None)
            return
        file = self._files.setdefault(step.file, _File())
        if step.kind != "sync":
            file.pending.append((number, step))
            return
        for before, earlier in file.pending:
            if before < step.at:
                _apply(file.durable, earlier)
        file.pending = [late for late in file.pending if late[0] >= step.at]


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del content[step.at :]
        return
    end = step.at + len(step.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[step.at : end] = step.data


def _apply_part(content: bytearray, step: Step, rng: random.Random) -> None:
    """All of it, none of it, or the sectors before a border, or the ones after it."""
    fate = rng.randrange(4)
    if fate == 0 or step.kind == "truncate":
        if fate != 1:
            _apply(content, step)
        return
    if fate == 1:
        return
    first = -step.at % SECTOR  # where the next border of the disk is
    borders = range(first, len(step.data) + 1, SECTOR)
    cut = rng.choice(borders) if borders else 0
    kept = (step.at, step.data[:cut]) if fate == 2 else (step.at + cut, step.data[cut:])
    if kept[1]:
        _apply(content, Step("write", step.file, *kept))
