"""Policies as their authors see them: a folder of files, manifests, and what is said of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from kybern.api import codec
from kybern.cli.main import main
from kybern.policies import admission
from kybern.policies.errors import PolicyError
from kybern.policies.load import load
from kybern.policies.offline import Inline, Verdict, judge, read_manifests
from kybern.policies.pool import Generation, WorkerPool
from kybern.policies.protocol import Ask, Outcome, Who

HEAD = """\
from kybern.api.core_v1 import ConfigMap, Pod
from kybern.policies import Request, admission

"""


def write(folder: Path, text: str, name: str = "policy.py") -> Path:
    """One policy file; its own lines begin at 4."""
    (folder / name).write_text(HEAD + text)
    return folder


POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {team: a}}
spec: {containers: [{name: c, image: nginx}]}
"""


def verdict(folder: Path, manifest: str = POD, operation: str = "CREATE") -> Verdict:
    found = judge(Inline(folder), read_manifests([("m.yaml", manifest.encode())]), operation, Who("me"), "default")
    return found[-1]


# -- authors ---------------------------------------------------------------------------------------------------------


def test_nothing_returned_lets_a_write_pass(tmp_path: Path) -> None:
    write(tmp_path, "@admission.validate\ndef fine(pod: Pod):\n    pass\n")
    assert verdict(tmp_path).passed


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 'no'", ["no"]),
        ("return ''", []),
        ("return ['a', 'b']", ["a", "b"]),
        ("yield 'a'\n    yield 'b'", ["a", "b"]),
        ("return (c.image for c in pod.spec.containers)", ["nginx"]),
    ],
)
def test_what_is_returned_or_yielded_is_what_is_wrong(tmp_path: Path, body: str, said: list[str]) -> None:
    write(tmp_path, f"@admission.validate\ndef strict(pod: Pod):\n    {body}\n")
    assert verdict(tmp_path).refusals == [f"policy.py:4 strict: {text}" for text in said]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return True", "it returned bool: return None to let a write pass, or what is wrong as text"),
        ("return {'a': 1}", "it returned dict: return None to let a write pass"),
        ("yield 5", "it yielded int: what is wrong is said as text"),
    ],
)
def test_what_cannot_be_meant_is_a_failure(tmp_path: Path, body: str, said: str) -> None:
    write(tmp_path, f"@admission.validate\ndef odd(pod: Pod):\n    {body}\n")
    (failure,) = verdict(tmp_path).failures
    assert said in failure


def test_a_policy_that_raises_is_told_by_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "@admission.validate\ndef broken(pod: Pod):\n    return pod.metadata.labels['no']\n")
    assert verdict(tmp_path).failures == ["policy broken failed: policy.py:6: KeyError: 'no'"]


def test_a_policy_that_asks_to_exit_only_fails(tmp_path: Path) -> None:
    write(tmp_path, "import sys\n@admission.validate\ndef leaves(pod: Pod):\n    sys.exit(3)\n")
    assert verdict(tmp_path).failures == ["policy leaves failed: policy.py:7: SystemExit: 3"]


def test_a_slow_policy_is_cut_where_it_is(tmp_path: Path) -> None:
    slow = "@admission.validate(budget=0.05)\ndef slow(pod: Pod):\n    while True:\n        pass\n"
    write(tmp_path, slow)
    (failure,) = verdict(tmp_path).failures
    assert failure.startswith("policy slow failed: took longer than 0.05 s, cut at policy.py:")


def test_a_policy_may_fail_open_if_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, "@admission.validate(fails_open=True)\ndef hopes(pod: Pod):\n    1 / 0\n")
    found = verdict(tmp_path)
    assert found.passed
    assert found.warnings == ["policy hopes failed: policy.py:6: ZeroDivisionError: division by zero"]


def test_a_policy_changes_its_object_in_place_or_returns_another(tmp_path: Path) -> None:
    text = "@admission.mutate\ndef labels(pod: Pod):\n    pod.metadata.labels['x'] = 'y'\n"
    text += "@admission.mutate\ndef again(pod: Pod):\n    pod.metadata.labels['z'] = 'y'\n    return pod\n"
    write(tmp_path, text)
    found = verdict(tmp_path)
    assert found.object is not None
    assert found.object["metadata"]["labels"] == {"team": "a", "x": "y", "z": "y"}
    assert found.changed_by == ["labels", "again"]


def test_judges_see_what_was_changed(tmp_path: Path) -> None:
    text = "@admission.validate\ndef judge(pod: Pod):\n    return pod.metadata.labels.get('x')\n"
    text += "@admission.mutate\ndef change(pod: Pod):\n    pod.metadata.labels['x'] = 'seen'\n"
    write(tmp_path, text)
    assert verdict(tmp_path).refusals == ["policy.py:4 judge: seen"]


def test_what_a_policy_makes_must_be_of_its_kind(tmp_path: Path) -> None:
    write(tmp_path, "@admission.mutate\ndef breaks(pod: Pod):\n    pod.spec.containers = 'none'\n")
    (failure,) = verdict(tmp_path).failures
    assert "policy.py:4: it made an object that is not one: Expected `array`, got `str`" in failure


def test_a_request_tells_who_writes_what_where(tmp_path: Path) -> None:
    text = """
@admission.validate(operations="*")
def sees(pod: Pod, request: Request):
    request.warn(f"{request.operation} {request.namespace}/{request.name} by {request.user.name}")
    request.annotate("seen", "yes")
    return request.namespace_labels.get("env")
"""
    write(tmp_path, text)
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {env: prod}}\n---"
    found = verdict(tmp_path, space + POD, "DELETE")
    assert found.warnings == ["DELETE default/p by me"]
    assert found.refusals == ["policy.py:5 sees: prod"]


def test_objects_of_custom_kinds_come_as_json(tmp_path: Path) -> None:
    text = "@admission.validate('widgets.example.com')\ndef small(widget: dict):\n"
    write(tmp_path, text + "    return 'too big' if widget['spec']['size'] > 3 else None\n")
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: %d}\n"
    assert verdict(tmp_path, widget % 3).passed
    assert verdict(tmp_path, widget % 4).refusals == ["policy.py:4 small: too big"]


def test_one_function_may_be_for_several_kinds(tmp_path: Path) -> None:
    text = "@admission.validate\ndef named(obj: Pod | ConfigMap):\n    return type(obj).__name__\n"
    write(tmp_path, text)
    assert verdict(tmp_path).refusals == ["policy.py:4 named: Pod"]
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    assert verdict(tmp_path, config_map).refusals == ["policy.py:4 named: ConfigMap"]
    secret = verdict(tmp_path, "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\n")
    assert (secret.asked, secret.passed) == (0, True)


def test_a_decorated_function_can_still_be_called() -> None:
    @admission.validate("pods")
    def plain(pod: dict[str, Any]) -> str:
        return "called"

    assert plain({}) == "called"


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def x(:\n", "policy.py:4: SyntaxError: "),
        ("1 / 0\n", "policy.py:4: ZeroDivisionError: division by zero"),
        ("import nothing_like_this\n", "policy.py:4: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("@admission.validate\ndef f(obj):\n    pass\n", "policy.py:4: TypeError: policy f: say which kind it is for"),
        (
            "@admission.validate\nasync def f(pod: Pod):\n    pass\n",
            "policy.py:4: TypeError: a policy is a plain function",
        ),
        ("@admission.validate\ndef f():\n    pass\n", "policy.py:4: TypeError: policy f: wants the object"),
        (
            "@admission.validate(operations='PUT')\ndef f(p: Pod): pass\n",
            "policy.py:4: ValueError: policy f: operations are",
        ),
        (
            "@admission.validate(budget=60)\ndef f(p: Pod): pass\n",
            "policy.py:4: ValueError: policy f: the budget is at most",
        ),
        (
            "@admission.validate(speed=1)\ndef f(p: Pod): pass\n",
            "policy.py:4: TypeError: policy f: no such option: speed",
        ),
        ("@admission.validate\ndef f(p: 'Nope'): pass\n", "policy.py:4: NameError: "),
        ("import sys\nsys.exit()\n", "policy.py:5: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_line(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(PolicyError) as refused:
        load(tmp_path)
    assert str(refused.value).startswith(said)


def test_names_are_unique_over_all_files(tmp_path: Path) -> None:
    write(tmp_path, "@admission.validate\ndef f(pod: Pod): pass\n", "a.py")
    write(tmp_path, "@admission.validate\ndef f(pod: Pod): pass\n", "b.py")
    with pytest.raises(PolicyError, match=r"b.py:4: policy f is already in a.py:4"):
        load(tmp_path)


def test_files_share_what_is_in_files_with_an_underscore(tmp_path: Path) -> None:
    (tmp_path / "_teams.py").write_text("TEAMS = {'a'}\n")
    text = "from _teams import TEAMS\n@admission.validate\ndef known(pod: Pod):\n"
    write(tmp_path, text + "    return None if pod.metadata.labels['team'] in TEAMS else 'who?'\n")
    assert verdict(tmp_path).passed
    (tmp_path / "_teams.py").write_text("TEAMS = {'b', 'c'}\n")
    assert not verdict(tmp_path).passed


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        load(tmp_path / "no")


# -- kybern policy ---------------------------------------------------------------------------------------------------


def command(*args: str, stdin: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["policy", *args], input=stdin)
    return done.exit_code, done.output


def test_the_command_tells_what_was_refused_and_why(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    write(
        policies, "@admission.validate\ndef team(pod: Pod):\n    return 'no' if pod.metadata.name == 'bad' else None\n"
    )
    (tmp_path / "m.yaml").write_text(POD)
    assert command("test", str(tmp_path / "m.yaml"), "--policies", str(policies)) == (
        0,
        f"ok      {tmp_path}/m.yaml: Pod p\n1 objects, 1 policies: none refused\n",
    )
    code, said = command("test", "-", "--policies", str(policies), stdin=POD.replace("name: p", "name: bad"))
    assert code == 1
    assert "REFUSED standard input: Pod bad\n        policy.py:4 team: no\n" in said
    code, said = command("list", "--policies", str(policies))
    assert said == "team  judges pods on CREATE, UPDATE  (policy.py:4)\n"


def test_the_command_shows_the_admitted_object(tmp_path: Path) -> None:
    write(tmp_path, "@admission.mutate\ndef add(pod: Pod):\n    pod.metadata.labels['x'] = 'added'\n")
    code, said = command("test", "-", "--policies", str(tmp_path), "--show", stdin=POD)
    assert code == 0
    assert "    x: added\n" in said


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("a: [", "standard input: error converting YAML"),
        ("a: b", "standard input: an object needs apiVersion and kind"),
        ("apiVersion: v1\nkind: Pod\nspec: {nope: 1}\n", "not a valid object: unknown field spec.nope"),
        ("apiVersion: v1\nkind: Pod\nspec: 5\n", "not a valid object: "),
    ],
)
def test_the_command_tells_what_is_no_manifest(tmp_path: Path, manifest: str, said: str) -> None:
    write(tmp_path, "")
    code, told = command("test", "-", "--policies", str(tmp_path), stdin=manifest)
    assert code == 1
    assert said in told


# -- the processes that run policies for an API server ---------------------------------------------------------------


def pooled(folder: Path, scenario: Callable[[WorkerPool], Awaitable[None]]) -> None:
    async def run() -> None:
        pool = await WorkerPool.start(folder, size=1)
        try:
            await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(run())


def ask_of(generation: Generation, policy: str, name: str = "p") -> Ask:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": []}}
    index = [entry.name for entry in generation.entries].index(policy)
    data = msgspec.Raw(codec.encode(pod))
    return Ask(index, "CREATE", "pods", "", "default", name, Who("me"), data)


async def asked(pool: WorkerPool, policy: str, name: str = "p") -> Outcome:
    generation = pool.acquire()
    try:
        return await generation.evaluate(ask_of(generation, policy, name))
    finally:
        pool.release(generation)


HANGS = """
import ctypes, os
@admission.validate
def says(pod: Pod):
    print("to the log")
    return pod.metadata.name

@admission.validate(budget=0.05)
def hangs(pod: Pod):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

@admission.validate
def dies(pod: Pod):
    os._exit(7)

@admission.mutate
def changes(pod: Pod):
    pod.metadata.labels["x"] = "y"
"""


@pytest.mark.thorough
def test_policies_run_in_a_process_that_may_hang_and_die(tmp_path: Path) -> None:
    write(tmp_path, HANGS)

    async def scenario(pool: WorkerPool) -> None:
        assert (await asked(pool, "says")).refusals == ["p"]
        assert b'"labels":{"x":"y"}' in bytes((await asked(pool, "changes")).object)
        hung = await asked(pool, "hangs")
        assert hung.failure == "took longer than 0.05 s and did not stop: its process was ended"
        assert (await asked(pool, "says", "after")).refusals == ["after"]
        assert (await asked(pool, "dies")).failure == "its process ended while it ran"
        assert (await asked(pool, "says", "again")).refusals == ["again"]

    pooled(tmp_path, scenario)


def test_changed_files_count_when_all_of_them_load(tmp_path: Path) -> None:
    def put(text: str) -> None:
        path = write(tmp_path, f"@admission.validate\ndef says(pod: Pod):\n    {text}\n") / "policy.py"
        put.stamp += 1_000_000_000  # type: ignore[attr-defined]
        os.utime(path, ns=(put.stamp, put.stamp))  # type: ignore[attr-defined]

    put.stamp = 10**18  # type: ignore[attr-defined]
    put("return 'one'")

    async def scenario(pool: WorkerPool) -> None:
        generation = pool.acquire()
        put("return 'two'")
        await pool.reload_if_changed()
        assert (await asked(pool, "says")).refusals == ["two"]
        # A write that began before still has what it began with.
        assert (await generation.evaluate(ask_of(generation, "says"))).refusals == ["one"]
        pool.release(generation)
        put("return (")
        await pool.reload_if_changed()
        assert (await asked(pool, "says")).refusals == ["two"]

    pooled(tmp_path, scenario)


def test_a_folder_may_come_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"

    async def scenario(pool: WorkerPool) -> None:
        assert pool.count == 0
        folder.mkdir()
        write(folder, "@admission.validate\ndef says(pod: Pod):\n    return 'here'\n")
        await pool.reload_if_changed()
        assert (await asked(pool, "says")).refusals == ["here"]

    pooled(folder, scenario)


def test_an_api_server_does_not_start_with_files_that_cannot_be_used(tmp_path: Path) -> None:
    write(tmp_path, "1 / 0\n")
    with pytest.raises(PolicyError, match=r"policy.py:4: ZeroDivisionError"):
        asyncio.run(WorkerPool.start(tmp_path))


# -- docs/policies.md ------------------------------------------------------------------------------------------------


def test_the_examples_of_the_documentation_work(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/policies.md").read_text()
    for block in page.split("```python\n")[1:]:
        code = block.partition("```")[0]
        if code.startswith("# policies/"):
            (tmp_path / code.split("\n")[0].removeprefix("# policies/")).write_text(code)
    production = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {env: production}}\n---"
    found = verdict(tmp_path, production + POD)
    assert found.changed_by == ["pull_from_the_mirror"]
    assert found.refusals == [
        "images.py:19 no_moving_tags: container c: name a version, not registry.internal/nginx",
        "teams.py:8 says_whose_it_is: there is no team 'a': use one of data, platform, web",
    ]
    good = POD.replace("team: a", "team: web").replace("image: nginx", "image: 'nginx:1.27'")
    assert verdict(tmp_path, production + good).passed
