"""One call of one policy: bytes to objects, the function, what it says. Used by worker and offline.

A call is cut at its budget by a timer signal, which also tells the line it was at; that works in the main thread only.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from kybern.api import codec
from kybern.policies.errors import BudgetExceeded, place
from kybern.policies.load import Loaded
from kybern.policies.protocol import NOTHING, Ask, Outcome, is_something
from kybern.policies.request import Request, User

_REFUSALS = 100
_TEXT = 4096


class _Wrong(Exception):
    """The policy returned what it must not."""


def evaluate(loaded: Loaded, ask: Ask, folder: Path) -> Outcome:
    """Never raises for what the policy does."""
    policy = loaded.policy
    wanted = policy.wanted_of(ask.resource, ask.subresource)
    struct = wanted.struct if wanted is not None else None
    obj = _decoded(struct, ask.object)
    request = Request(
        operation=ask.operation,
        resource=ask.resource,
        subresource=ask.subresource,
        namespace=ask.namespace,
        name=ask.name,
        user=User(ask.user.name, ask.user.uid, ask.user.groups, dict(ask.user.extra)),
        old=_decoded(struct, ask.old) if is_something(ask.old) else None,
        dry_run=ask.dryRun,
        namespace_labels=dict(ask.namespaceLabels),
    )
    try:
        with _budget(policy.budget):
            found = policy.function(obj, request) if policy.takes_request else policy.function(obj)
            refusals = [] if policy.may_change else _refusals(found)
            changed = _changed(obj, found, struct) if policy.may_change else NOTHING
    except BudgetExceeded as error:
        where = place(error, folder) or loaded.place
        return Outcome(failure=f"took longer than {policy.budget:g} s, cut at {where}")
    except _Wrong as error:
        return Outcome(failure=f"{loaded.place}: {error}")
    except (Exception, SystemExit) as error:
        where = place(error, folder) or loaded.place
        return Outcome(failure=f"{where}: {type(error).__name__}: {str(error)[:_TEXT]}")
    texts = [str(text)[:_TEXT] for text in request.warnings]
    notes = {str(key): str(value)[:_TEXT] for key, value in request.annotations.items()}
    return Outcome(refusals=refusals, object=changed, warnings=texts, annotations=notes)


def _decoded(struct: type[msgspec.Struct] | None, data: msgspec.Raw) -> Any:
    return msgspec.json.decode(data) if struct is None else codec.decode_pruned(struct, bytes(data))[0]


def _refusals(found: Any) -> list[str]:
    """What a validate policy returned or yields, as texts."""
    if found is None or found == "":
        return []
    if isinstance(found, str):
        return [found[:_TEXT]]
    if isinstance(found, (bool, bytes, dict)) or not isinstance(found, Iterable):
        kind = type(found).__name__
        raise _Wrong(f"it returned {kind}: return None to let a write pass, or what is wrong as text")
    texts = []
    for text in found:
        if not isinstance(text, str):
            raise _Wrong(f"it yielded {type(text).__name__}: what is wrong is said as text")
        texts.append(text[:_TEXT])
        if len(texts) == _REFUSALS:
            break
    return texts


def _changed(obj: Any, found: Any, struct: type[msgspec.Struct] | None) -> msgspec.Raw:
    """The object after a mutate policy."""
    result = obj if found is None else found
    if not isinstance(result, dict if struct is None else struct):
        wanted = "a dict" if struct is None else struct.__name__
        raise _Wrong(f"it returned {type(result).__name__}: change the object in place, or return {wanted}")
    try:
        data = codec.encode(result)
        # What was put into a field is looked at here, where the file can be named.
        if struct is not None:
            codec.decode(struct, data)
    except (TypeError, msgspec.MsgspecError, RecursionError) as error:
        raise _Wrong(f"it made an object that is not one: {error}") from None
    return msgspec.Raw(data)


@contextlib.contextmanager
def _budget(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the pool's own patience cuts it
        return

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise BudgetExceeded

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
