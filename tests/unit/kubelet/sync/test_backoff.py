"""Back-off of crashing containers."""

from kybern.kubelet.sync import backoff
from kybern.kubelet.sync.backoff import SECOND


def test_delays_double_to_five_minutes():
    entry, delays, now = None, [], 0
    for _ in range(8):
        finished = now
        now = max(backoff.wait_until(entry, finished), now)
        delays.append((now - finished) // SECOND)
        entry = backoff.after_restart(entry, finished, now)
        now += SECOND
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_quiet_minutes_are_forgiven():
    entry = backoff.Entry(300.0, 0)
    assert backoff.wait_until(entry, 599 * SECOND) == 899 * SECOND
    assert backoff.wait_until(entry, 601 * SECOND) == 0
    assert backoff.after_restart(entry, 601 * SECOND, 602 * SECOND).delay == 10.0
