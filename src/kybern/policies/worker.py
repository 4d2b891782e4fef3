"""The process that runs policies: `python -m kybern.policies.worker FOLDER`. Started and ended by pool.

Says its catalogue, then answers one call after the other, until its input ends. A process of its own: a policy that
loops for ever, eats memory or crashes the interpreter takes nothing with it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from kybern.policies import protocol
from kybern.policies.errors import PolicyError
from kybern.policies.evaluate import evaluate
from kybern.policies.load import load

_MEMORY = 2 << 30  # bytes of address space


def main(folder: Path) -> None:
    """Until the pool is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the API server
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    # What policies print goes to the log, not between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asks = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        policies = load(folder)
    except PolicyError as error:
        _say(answers, protocol.Broken(str(error)))
        return
    _say(answers, protocol.catalogue_of(policies))
    folder = folder.resolve()
    while (data := _read(asks)) is not None:
        ask = protocol.parse_ask(data)
        _say(answers, evaluate(policies[ask.policy], ask, folder))


def _say(stream: BinaryIO, message: protocol.Message) -> None:
    stream.write(protocol.frame(message))
    stream.flush()


def _read(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(protocol.PREFIX)
    if len(prefix) < protocol.PREFIX:
        return None
    return stream.read(protocol.length_of(prefix))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
