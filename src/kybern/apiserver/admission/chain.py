"""Run the plugins over a write: all that may change it, in order (twice if need be), then all that may refuse it.

Called by the registry. Synchronous as long as no plugin waits, so that an ordinary write costs no task switch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

from kybern.apiserver.admission import Attributes, Plugin

Step = Callable[[Attributes], Awaitable[None] | None]
_Key = tuple[str, str, str, str]


class Chain:
    """Plugins in their order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._steps: dict[_Key, tuple[tuple[Step, ...], tuple[Step, ...]]] = {}

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        """Change, then judge. Raises ApiError, at once or when awaited; None when there is nothing to wait for."""
        changing, judging = self._steps_for(a)
        return _run(iter((*changing, *judging)), a)

    def mutate(self, a: Attributes) -> Awaitable[None] | None:
        """The first half of `admit`: before the object is validated."""
        return _run(iter(self._steps_for(a)[0]), a)

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        """The second half of `admit`: after the object is validated."""
        return _run(iter(self._steps_for(a)[1]), a)

    def _steps_for(self, a: Attributes) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        key = (a.operation, a.resource.group, a.resource.plural, a.subresource)
        found = self._steps.get(key)
        if found is None:
            asked = [p for p in self.plugins if p.handles(a)]
            changing = tuple(p.admit for p in asked)
            found = self._steps[key] = ((*changing, _again(changing)), tuple(p.validate for p in asked))
        return found


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
