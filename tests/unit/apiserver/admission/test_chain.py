from __future__ import annotations

import asyncio

import pytest

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.chain import Chain
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.admission.timings import Timings
from kybern.machinery import metrics
from kybern.machinery.status import ApiError
from kybern.testing.gate import Gate, pod


class Noted(Rule):
    """Writes down when it is asked; waits, or refuses, if told so."""

    def __init__(self, name: str, log: list[str], waits: bool = False, refuses: bool = False) -> None:
        self.name = name
        self.log = log
        self.waits = waits
        self.refuses = refuses
        self.asked = 0

    def handles(self, a: Attributes) -> bool:
        self.asked += 1
        return a.operation == "CREATE"

    def admit(self, a: Attributes):  # type: ignore[no-untyped-def]
        return self.step("admit", a)

    def validate(self, a: Attributes):  # type: ignore[no-untyped-def]
        return self.step("validate", a)

    def step(self, what: str, a: Attributes):  # type: ignore[no-untyped-def]
        self.log.append(f"{self.name} {what}")
        if self.refuses and what == "validate":
            raise forbidden(a, "no")
        return asyncio.sleep(0) if self.waits else None


ORDER = ["a admit", "b admit", "a validate", "b validate"]


def test_all_change_before_any_judges() -> None:
    log: list[str] = []
    chain = Chain([Noted("a", log), Noted("b", log)])
    assert chain.admit(Gate().attributes("CREATE", pod())) is None
    assert log == ORDER


def test_the_order_is_kept_when_some_wait() -> None:
    log: list[str] = []
    waiting = Chain([Noted("a", log, waits=True), Noted("b", log, waits=True)]).admit(
        Gate().attributes("CREATE", pod())
    )
    assert log == ["a admit"]
    assert waiting is not None

    async def finish() -> None:
        await waiting

    asyncio.run(finish())
    assert log == ORDER


def test_a_refusal_ends_it() -> None:
    log: list[str] = []
    chain = Chain([Noted("a", log, refuses=True), Noted("b", log)])
    with pytest.raises(ApiError):
        chain.admit(Gate().attributes("CREATE", pod()))
    assert log == ORDER[:3]


def test_both_halves_can_be_run_apart() -> None:
    log: list[str] = []
    chain = Chain([Noted("a", log), Noted("b", log)])
    chain.mutate(Gate().attributes("CREATE", pod()))
    assert log == ORDER[:2]
    chain.validate(Gate().attributes("CREATE", pod()))
    assert log == ORDER


def test_who_is_to_be_asked_is_remembered() -> None:
    plugin = Noted("a", [])
    chain = Chain([plugin])
    for _ in range(3):
        chain.admit(Gate().attributes("CREATE", pod()))
    assert plugin.asked == 1
    chain.admit(Gate().attributes("DELETE", None, pod()))
    assert plugin.asked == 2
    assert len(plugin.log) == 6


def test_what_each_plugin_takes_is_counted_under_upstreams_names() -> None:
    registry = metrics.Registry()
    log: list[str] = []
    chain = Chain([Noted("a", log), Noted("b", log, waits=True), Noted("c", log, refuses=True)], Timings(registry))
    waiting = chain.admit(Gate().attributes("CREATE", pod()))
    assert waiting is not None

    async def finish() -> None:
        await waiting

    with pytest.raises(ApiError):
        asyncio.run(finish())
    text = registry.render().decode()
    name = "apiserver_admission_controller_admission_duration_seconds_count"
    assert f'{name}{{name="a",operation="CREATE",rejected="false",type="admit"}} 1' in text
    assert f'{name}{{name="b",operation="CREATE",rejected="false",type="validate"}} 1' in text
    assert f'{name}{{name="c",operation="CREATE",rejected="true",type="validate"}} 1' in text
    half = "apiserver_admission_step_admission_duration_seconds_count"
    assert f'{half}{{operation="CREATE",rejected="true",type="validate"}} 1' in text


def test_what_a_plugin_does_not_do_is_not_asked_for() -> None:
    class Judge(Rule):
        name = "judge"

        def validate(self, a: Attributes) -> None:
            raise forbidden(a, "no")

    registry = metrics.Registry()
    chain = Chain([Judge()], Timings(registry))
    assert chain.mutate(Gate().attributes("CREATE", pod())) is None
    assert 'name="judge",operation="CREATE",rejected="false",type="admit"' not in registry.render().decode()
