"""Run the plugins over a write: all that may change it, in order (twice if need be), then all that may refuse it.

Called by the registry. Synchronous as long as no plugin waits, so that an ordinary write costs no task switch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence

from kybern.apiserver.admission import Attributes, Plugin
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.admission.timings import Step, Timings

_Key = tuple[str, str, str, str]


class Chain:
    """Plugins in their order."""

    def __init__(self, plugins: Sequence[Plugin], timings: Timings | None = None) -> None:
        self.plugins = tuple(plugins)
        self._timings = timings
        self._halves: dict[_Key, tuple[Step, Step]] = {}

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        """Change, then judge. Raises ApiError, at once or when awaited; None when there is nothing to wait for."""
        return _run(iter(self._halves_for(a)), a)

    def mutate(self, a: Attributes) -> Awaitable[None] | None:
        """The first half of `admit`: before the object is validated."""
        return self._halves_for(a)[0](a)

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        """The second half of `admit`: after the object is validated."""
        return self._halves_for(a)[1](a)

    def _halves_for(self, a: Attributes) -> tuple[Step, Step]:
        key = (a.operation, a.resource.group, a.resource.plural, a.subresource)
        found = self._halves.get(key)
        if found is None:
            asked = [p for p in self.plugins if p.handles(a)]
            changing = [self._timed(p.admit, p, a, "admit") for p in asked if type(p).admit is not Rule.admit]
            judging = [
                self._timed(p.validate, p, a, "validate") for p in asked if type(p).validate is not Rule.validate
            ]
            mutate, validate = _all((*changing, _again(changing))), _all(judging)
            if self._timings is not None:
                mutate = self._timings.of_half(mutate, a.operation, "admit")
                validate = self._timings.of_half(validate, a.operation, "validate")
            found = self._halves[key] = (mutate, validate)
        return found

    def _timed(self, step: Step, plugin: Plugin, a: Attributes, kind: str) -> Step:
        if self._timings is None:
            return step
        return self._timings.of_plugin(step, plugin.name, a.operation, kind)


def _all(steps: Sequence[Step]) -> Step:
    kept = tuple(steps)
    return lambda a: _run(iter(kept), a)


def _again(changing: Sequence[Step]) -> Step:
    """All that may change a write once more, where one of them changed it in a way that others must see."""

    def step(a: Attributes) -> Awaitable[None] | None:
        if not a.wants_round or a.round:
            return None
        a.round = 1
        return _run(iter(changing), a)

    return step


def _run(steps: Iterator[Step], a: Attributes) -> Awaitable[None] | None:
    for step in steps:
        waiting = step(a)
        if waiting is not None:
            return _run_on(waiting, steps, a)
    return None


async def _run_on(waiting: Awaitable[None], steps: Iterator[Step], a: Attributes) -> None:
    await waiting
    for step in steps:
        later = step(a)
        if later is not None:
            await later
