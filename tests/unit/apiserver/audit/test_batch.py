"""Audit events collected and sent, under a clock of the test's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from kybern.apiserver.audit.batch import Batch, BatchOptions
from kybern.apiserver.audit.sinks import Event
from kybern.apiserver.audit.webhook import TRIES, Webhook
from kybern.machinery.clock import Clock
from kybern.testing import clock as virtual


class Broken(Exception):
    """What the server of these tests says when it fails."""


def events(count: int) -> list[Event]:
    return [Event({"number": n}) for n in range(count)]


def batches(options: BatchOptions, count: int, seconds: float) -> tuple[list[tuple[float, int]], int]:
    """(when, how many) of each batch in the first `seconds`, and how many events were lost."""
    seen: list[tuple[float, int]] = []

    async def main(clock: Clock) -> int:
        start = clock.monotonic()

        async def deliver(batch: Sequence[Event]) -> None:
            seen.append((round(clock.monotonic() - start, 1), len(batch)))

        batch = Batch("test", options, deliver, clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(batch.run())
            for event in events(count):
                batch.put(event)
            await clock.sleep(seconds)
            running.cancel()
        return batch.lost

    return seen, virtual.run(main)


def test_a_full_batch_goes_at_once_and_the_rest_when_its_time_has_come() -> None:
    seen, lost = batches(BatchOptions(size=10, wait=5.0), 25, 20.0)
    assert seen == [(0.0, 10), (0.0, 10), (5.0, 5)]
    assert lost == 0


def test_what_the_buffer_cannot_hold_is_lost_and_counted() -> None:
    seen, lost = batches(BatchOptions(buffer=10, size=10, wait=5.0), 25, 20.0)
    assert (seen, lost) == ([(0.0, 10)], 15)


def test_batches_go_no_faster_than_they_may() -> None:
    seen, _ = batches(BatchOptions(size=1, rate=2.0, burst=2), 6, 20.0)
    assert [when for when, _ in seen] == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]


def test_batches_are_limited_in_bytes() -> None:
    seen, _ = batches(BatchOptions(size=10, bytes=30, wait=1.0), 4, 20.0)
    assert [count for _, count in seen] == [2, 2]


def send(failures: int, count: int = 3) -> tuple[list[bytes], float, int]:
    """(bodies posted, seconds it took, events lost) when the first `failures` tries fail."""
    posted: list[bytes] = []

    async def main(clock: Clock) -> tuple[float, int]:
        async def post(body: bytes) -> None:
            posted.append(body)
            if len(posted) <= failures:
                raise Broken("no answer")

        webhook = Webhook(post, (Broken,), clock, random.Random(1), backoff=10.0)
        start = clock.monotonic()
        await webhook.deliver(events(count))
        return clock.monotonic() - start, webhook.lost

    return (posted, *virtual.run(main))


def test_a_batch_is_posted_as_a_list_of_events() -> None:
    (body,), seconds, lost = send(0)
    sent = msgspec.json.decode(body)
    assert (sent["kind"], sent["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
    assert sent["items"] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert (seconds, lost) == (0.0, 0)


def test_a_batch_that_fails_is_sent_again_after_a_pause() -> None:
    posted, seconds, lost = send(2)
    assert len(posted) == 3
    assert 25.0 <= seconds <= 30.0
    assert lost == 0


def test_a_batch_that_fails_again_and_again_is_given_up() -> None:
    posted, _, lost = send(100)
    assert (len(posted), lost) == (TRIES, 3)
