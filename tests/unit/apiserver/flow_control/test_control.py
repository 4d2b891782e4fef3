import asyncio
import gc
from typing import Any

from kybern.apiserver.flow_control import upkeep
from kybern.apiserver.flow_control.level import Seat
from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS, LEVELS = f"{GROUP}/flowschemas", f"{GROUP}/prioritylevelconfigurations"
CONFIGS = "/api/v1/namespaces/default/configmaps"
DUMPS = "/debug/api_priority_and_fairness"
JOE = User("joe", "2", ("devs", "system:authenticated"))
NODE = User("system:node:n1", "3", ("system:nodes", "system:authenticated"))


def level(name: str, shares: int, response: dict[str, Any], **limited: Any) -> dict[str, Any]:
    spec = {"nominalConcurrencyShares": shares, "limitResponse": response, **limited}
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": spec}}


def schema(name: str, to: str, user: str, precedence: int = 100) -> dict[str, Any]:
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": True}
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}}],
        "resourceRules": [everything],
        "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}],
    }
    spec = {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": to}, "rules": [rule]}
    return {"metadata": {"name": name}, "spec": {**spec, "distinguisherMethod": {"type": "ByUser"}}}


async def may_do_all(api: Api, user: str) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": f"all-{user}"}, "roleRef": role, "subjects": [subject]}
    (await api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)).ok()


async def pass_time(api: Api, seconds: float) -> None:
    assert isinstance(api.clock, FakeClock)
    await api.clock.advance(seconds)


async def conditions(api: Api, name: str) -> dict[str, str]:
    await pass_time(api, 2 * upkeep.LOOK_SECONDS)
    found = (await api.get(f"{SCHEMAS}/{name}")).ok()["status"]["conditions"]
    return {c["type"]: f"{c['status']} {c['reason']}" for c in found}


def test_every_cluster_has_the_objects_and_answers_say_what_a_request_was() -> None:
    async def scenario(api: Api) -> None:
        names = {o["metadata"]["name"] for o in (await api.get(SCHEMAS)).ok()["items"]}
        assert {"exempt", "catch-all", "probes", "system-node-high", "global-default"} <= names
        uid = (await api.get(f"{SCHEMAS}/system-node-high")).ok()["metadata"]["uid"]
        level_uid = (await api.get(f"{LEVELS}/node-high")).ok()["metadata"]["uid"]
        answer = await api.as_user(NODE).get("/api/v1/nodes/n1")
        assert answer.headers["x-kubernetes-pf-flowschema-uid"] == uid
        assert answer.headers["x-kubernetes-pf-prioritylevel-uid"] == level_uid

    api_server.run(scenario, users=(NODE,))


def test_a_new_schema_holds_from_the_next_request_on() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(LEVELS, level("own", 10, {"type": "Reject"}))).ok()
        made = (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        answer = await api.as_user(JOE).get("/version")
        assert answer.headers["x-kubernetes-pf-flowschema-uid"] == made["metadata"]["uid"]
        (await api.delete(f"{SCHEMAS}/own")).ok()
        answer = await api.as_user(JOE).get("/version")
        assert answer.headers["x-kubernetes-pf-flowschema-uid"] != made["metadata"]["uid"]

    api_server.run(scenario, users=(JOE,))


def test_a_schema_tells_whether_its_level_exists() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        assert await conditions(api, "own") == {"Dangling": "True NotFound"}
        (await api.create(LEVELS, level("own", 10, {"type": "Reject"}))).ok()
        assert await conditions(api, "own") == {"Dangling": "False Found"}

    api_server.run(scenario)


def test_what_is_missing_or_changed_is_made_again() -> None:
    async def scenario(api: Api) -> None:
        (await api.delete(f"{SCHEMAS}/catch-all")).ok()
        (await api.delete(f"{LEVELS}/workload-low")).ok()
        await api.patch(f"{SCHEMAS}/system-nodes", {"spec": {"matchingPrecedence": 777}})
        mine = {"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}}
        (await api.patch(f"{SCHEMAS}/probes", {**mine, "spec": {"matchingPrecedence": 3}})).ok()
        stray = schema("stray", "exempt", "joe")
        stray["metadata"]["annotations"] = {"apf.kubernetes.io/autoupdate-spec": "true"}
        (await api.create(SCHEMAS, stray)).ok()
        await pass_time(api, upkeep.MAINTAIN_SECONDS + 5)
        assert (await api.get(f"{SCHEMAS}/catch-all")).status == 200
        assert (await api.get(f"{LEVELS}/workload-low")).status == 200
        assert (await api.get(f"{SCHEMAS}/system-nodes")).ok()["spec"]["matchingPrecedence"] == 500
        assert (await api.get(f"{SCHEMAS}/probes")).ok()["spec"]["matchingPrecedence"] == 3
        assert (await api.get(f"{SCHEMAS}/stray")).status == 404

    api_server.run(scenario)


async def crowd(api: Api, count: int) -> list[int]:
    """The codes of so many writes at once."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(api.create(CONFIGS, {"metadata": {"generateName": "c"}})) for _ in range(count)]
    return [task.result().status for task in asked]


def test_a_level_that_rejects_refuses_what_it_has_no_seats_for() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        (await api.create(LEVELS, level("own", 1, {"type": "Reject"}, borrowingLimitPercent=0))).ok()
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        joe = api.as_user(JOE)
        codes = await crowd(joe, 10)
        seats = api.server.flow_control.levels["own"].limits.nominal  # type: ignore[union-attr]
        assert codes.count(201) == seats
        assert codes.count(429) == 10 - seats
        assert (await joe.create(CONFIGS, {"metadata": {"name": "later"}})).status == 201

    api_server.run(scenario, users=(JOE,))


def test_a_refusal_says_when_to_come_again() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        (await api.create(LEVELS, level("own", 0, {"type": "Reject"}, borrowingLimitPercent=0))).ok()
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        joe = api.as_user(JOE)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(joe.create(CONFIGS, {"metadata": {"name": n}})) for n in ("a", "b")]
        first, second = (task.result() for task in asked)
        assert first.status == 201
        assert second.status == 429
        assert second.headers["retry-after"] == "1"
        assert second.headers["content-type"] == "text/plain; charset=utf-8"
        assert second.body == b"Too many requests, please try again later.\n"

    api_server.run(scenario, users=(JOE,))


def test_who_comes_again_at_once_many_times_hears_of_it_later() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        (await api.create(LEVELS, level("own", 0, {"type": "Reject"}, borrowingLimitPercent=0))).ok()
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        joe, loop = api.as_user(JOE), asyncio.get_running_loop()
        began, took = loop.time(), []

        async def ask() -> None:
            answer = await joe.create(CONFIGS, {"metadata": {"generateName": "c"}})
            if answer.status == 429:
                took.append(loop.time() - began)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(200):
                tasks.create_task(ask())
        assert len([t for t in took if t < 0.5]) == 50
        assert len([t for t in took if t >= 1]) == 149

    api_server.run(scenario, users=(JOE,))


def test_requests_that_are_over_leave_nothing_to_the_collector() -> None:
    def seats() -> set[int]:
        return {id(o) for o in gc.get_objects() if isinstance(o, Seat)}

    async def scenario(api: Api) -> None:
        await crowd(api, 3)
        gc.collect()
        gc.disable()
        try:
            before = seats()  # of other tests in this process
            await crowd(api, 20)
            assert seats() <= before
        finally:
            gc.enable()

    api_server.run(scenario)


def test_a_level_that_queues_lets_everybody_wait_and_dumps_who_does() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        queuing = {"queues": 4, "handSize": 2, "queueLengthLimit": 50}
        (await api.create(LEVELS, level("own", 1, {"type": "Queue", "queuing": queuing}))).ok()
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        joe = api.as_user(JOE)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(crowd(joe, 40))
            for _ in range(3):
                await asyncio.sleep(0)
            text = (await api.get(f"{DUMPS}/dump_requests?includeRequestDetails=true")).body.decode()
            queues = (await api.get(f"{DUMPS}/dump_queues")).body.decode()
        assert set(waiting.result()) == {201}
        rows = [line.split() for line in text.splitlines() if line.startswith("own,")]
        assert len(rows) > 30
        assert {row[4] for row in rows} == {"joe,"}
        assert any(int(line.split()[2].strip(",")) > 5 for line in queues.splitlines() if line.startswith("own,"))
        levels = (await api.get(f"{DUMPS}/dump_priority_levels")).body.decode()
        own = next(line.split() for line in levels.splitlines() if line.startswith("own,"))
        assert own == ["own,", "0,", "true,", "false,", "0,", "0,", "40,", "0,", "0,", "0"]

    api_server.run(scenario, users=(JOE,))


def test_a_client_that_goes_away_gives_its_seat_back() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        (await api.create(LEVELS, level("own", 1, {"type": "Queue", "queuing": {"queues": 4, "handSize": 2}}))).ok()
        (await api.create(SCHEMAS, schema("own", "own", "joe"))).ok()
        joe = api.as_user(JOE)
        asked = asyncio.gather(*(joe.create(CONFIGS, {"metadata": {"generateName": "c"}}) for _ in range(30)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        own = api.server.flow_control.levels["own"]  # type: ignore[union-attr]
        assert own.queues.waiting
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert (own.queues.seats, own.queues.waiting, own.queues.running, len(own.tickets)) == (0, 0, 0, 0)
        assert (await joe.create(CONFIGS, {"metadata": {"name": "later"}})).status == 201

    api_server.run(scenario, users=(JOE,))


def test_a_watch_has_a_seat_until_it_has_told_what_there_is() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()
        levels = api.server.flow_control.levels  # type: ignore[union-attr]
        async with api.as_user(JOE).watch(f"{CONFIGS}?watch=1") as watched:
            assert await watched.take(1) == [("ADDED", "a")]
            await asyncio.sleep(0)
            counts = levels["global-default"].counts["global-default"]
            assert counts.quick == 1
            assert (counts.running, levels["global-default"].queues.seats) == (0, 0)

    api_server.run(scenario, users=(JOE,))


def test_wide_lists_take_seats_and_turns() -> None:
    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        for number in range(30):
            (await api.create(CONFIGS, {"metadata": {"name": f"c{number}"}, "data": {"x": "y" * 20_000}})).ok()
        joe = api.as_user(JOE)
        control = api.server.flow_control
        assert control is not None
        await asyncio.sleep(0)
        assert (await joe.get(CONFIGS)).status == 200
        counts = control.levels["global-default"].counts["global-default"]
        assert counts.seats.sum == 6  # nearly 600 kB
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(joe.get(CONFIGS)) for _ in range(20)]
        assert {task.result().status for task in asked} == {200}
        assert counts.dispatched == 21
        assert control.levels["global-default"].queues.seats == 0

    api_server.run(scenario, users=(JOE,))


def test_a_noisy_client_does_not_starve_a_kubelets_lease() -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

    async def scenario(api: Api) -> None:
        await may_do_all(api, "joe")
        for number in range(30):
            (await api.create(CONFIGS, {"metadata": {"name": f"c{number}"}, "data": {"x": "y" * 20_000}})).ok()
        node = api.as_user(NODE)
        lease = (await node.create(leases, {"metadata": {"name": "n1"}, "spec": {}})).ok()
        joe = api.as_user(JOE)
        order: list[str] = []

        async def note(name: str, request: Any) -> None:
            answer = await request
            order.append(name if answer.status == 200 else f"{name} {answer.status}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(500):
                tasks.create_task(note("list", joe.get(CONFIGS)))
            tasks.create_task(note("lease", node.update(f"{leases}/n1", lease | {"spec": {"holderIdentity": "n1"}})))
        lists = [name for name in order[: order.index("lease")] if name == "list"]
        assert len(lists) < 20  # of what would be five hundred
        assert order.count("list") + order.count("list 429") == 500
        assert order.count("list") >= 300  # six queues of fifty

    api_server.run(scenario, users=(JOE, NODE))


def test_logs_and_other_long_requests_are_not_counted() -> None:
    async def scenario(api: Api) -> None:
        answer = await api.get("/api/v1/namespaces/default/pods/x/log")
        assert answer.status == 404
        assert "x-kubernetes-pf-flowschema-uid" not in answer.headers

    api_server.run(scenario)


def test_metrics_have_upstreams_names() -> None:
    async def scenario(api: Api) -> None:
        await crowd(api, 3)
        text = (await api.get("/metrics")).body.decode()
        for line in (
            'apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} 245',
            'apiserver_flowcontrol_current_executing_requests{flow_schema="exempt",priority_level="exempt"} 0',
            'apiserver_flowcontrol_work_estimated_seats_bucket{flow_schema="exempt",priority_level="exempt",le="1"} 3',
            'apiserver_current_inflight_requests{request_kind="mutating"}',
        ):
            assert line in text, line

    api_server.run(scenario)


def test_without_priority_and_fairness_the_plain_limits_hold() -> None:
    async def scenario(api: Api) -> None:
        codes = await crowd(api, 5)
        assert sorted(codes) == [201, 201, 429, 429, 429]
        answer = await api.get("/version")
        assert "x-kubernetes-pf-flowschema-uid" not in answer.headers

    api_server.run(scenario, options={"enable_priority_and_fairness": False, "max_mutating_requests_inflight": 2})
