"""Named health checks and the texts in which they are told: /healthz, /livez and /readyz of every component. Pure.

Served by apiserver/health and process/health; the texts are those of a v1.36 component. What was found is counted, for
kubernetes_healthcheck(s) in /metrics/slis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kybern.machinery import metrics

# "" when fine, else what is wrong
Check = Callable[[], str]
# of a verdict: code and text
Verdict = tuple[int, str]

NOT_FOUND: Verdict = (404, "404 page not found\n")
CONTENT_TYPE = "text/plain; charset=utf-8"


class Counts:
    """What the checks of all endpoints found. `started` is when the process did, in seconds since 1970."""

    def __init__(self, slis: metrics.Registry, started: float) -> None:
        slis.read(
            "gauge",
            "process_start_time_seconds",
            "[ALPHA] Start time of the process since unix epoch in seconds.",
            (),
            lambda: [((), started)],
        )
        self._last = slis.gauge(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
            ("name", "type"),
        )
        self._all = slis.counter(
            "kubernetes_healthchecks_total",
            "[STABLE] This metric records the results of all healthcheck.",
            ("name", "status", "type"),
        )

    def note(self, name: str, endpoint: str, is_fine: bool) -> None:
        self._last.set(name, endpoint, value=int(is_fine))
        self._all.add(name, "success" if is_fine else "error", endpoint)


class Health:
    """The checks of one endpoint, in order."""

    def __init__(self, endpoint: str, checks: Mapping[str, Check], counts: Counts | None = None) -> None:
        self.endpoint = endpoint
        self._checks = checks
        self._counts = counts

    def one(self, name: str) -> Verdict:
        """/livez/<name>: why a check fails is told here only."""
        check = self._checks.get(name)
        if check is None:
            return NOT_FOUND
        fault = self._ask(name, check)
        return (500, f"internal server error: {fault}\n") if fault else (200, "ok")

    def all(self, *, verbose: bool = False, excluded: Sequence[str] = ()) -> Verdict:
        """`ok`, or the list of checks where one fails or somebody wants it; `excluded` ones are not asked."""
        left_out = {name for name in excluded if name}
        lines, failed = [], False
        for name, check in self._checks.items():
            if name in left_out:
                lines.append(f"[+]{name} excluded: ok")
            elif self._ask(name, check):
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        unknown = sorted(left_out.difference(self._checks))
        if unknown:
            quoted = ",".join(f'"{_plain(name)}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
        if failed:
            return 500, "\n".join([*lines, f"{self.endpoint} check failed\n"])
        return (200, "\n".join([*lines, f"{self.endpoint} check passed\n"])) if verbose else (200, "ok")

    def answer(self, path: str, query: Mapping[str, Sequence[str]]) -> Verdict:
        """The verdict for a path of this endpoint: itself, or one check below it."""
        name = path.removeprefix(f"/{self.endpoint}")
        if name:
            return self.one(name[1:])
        return self.all(verbose="verbose" in query, excluded=query.get("exclude", ()))

    def _ask(self, name: str, check: Check) -> str:
        fault = check()
        if self._counts is not None:
            self._counts.note(name, self.endpoint, not fault)
        return fault


class Milestones:
    """What must have been done once before a component serves: each is a check that fails until then."""

    def __init__(self, *names: str) -> None:
        self._missing = dict.fromkeys(names)
        self._names = names

    def done(self, *names: str) -> None:
        for name in names:
            self._missing.pop(name, None)

    def checks(self) -> dict[str, Check]:
        return {name: self._check_of(name) for name in self._names}

    def _check_of(self, name: str) -> Check:
        return lambda: "not finished" if name in self._missing else ""


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:256])
