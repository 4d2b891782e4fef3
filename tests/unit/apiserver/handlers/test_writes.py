"""Create, update, patch and delete, as the API concepts promise them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kybern.apiserver.request import User
from kybern.storage.interface import Record, Revision, StoreUnavailable
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api

DEFAULT = "/api/v1/namespaces/default"
CONFIGS = f"{DEFAULT}/configmaps"
PODS = f"{DEFAULT}/pods"
SERVICES = f"{DEFAULT}/services"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def config(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"a": "b"}}


def pod(name: str = "web", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30},
    }


def deployment(name: str = "d") -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template}}


def service(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def make_pod(api: Api, name: str = "web", node: str = "n1", **metadata: Any) -> dict[str, Any]:
    """A pod that a scheduler has placed: it takes its time to go."""
    accounts = f"{DEFAULT}/serviceaccounts"
    if (await api.get(f"{accounts}/default")).status == 404:
        (await api.create(accounts, {"metadata": {"name": "default"}})).ok()
    (await api.create(PODS, pod(name, **metadata))).ok()
    (await api.create(f"{PODS}/{name}/binding", {"metadata": {"name": name}, "target": {"name": node}})).ok()
    made: dict[str, Any] = (await api.get(f"{PODS}/{name}")).ok()
    return made


def test_what_is_created_is_what_is_read() -> None:
    async def scenario(api: Api) -> None:
        answer = await api.create(CONFIGS, config())
        made = answer.ok()
        assert answer.status == 201
        assert made["metadata"]["uid"]
        assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
        assert made["metadata"]["namespace"] == "default"
        assert (await api.get(f"{CONFIGS}/a")).ok() == made
        again = await api.create(CONFIGS, config())
        assert (again.status, again.json["reason"]) == (409, "AlreadyExists")

    api_server.run(scenario)


def test_a_client_cannot_say_what_only_the_server_may() -> None:
    async def scenario(api: Api) -> None:
        forged = {"uid": "u", "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}
        made = (await api.create(CONFIGS, config(**forged, generation=7))).ok()
        assert made["metadata"]["uid"] != "u"
        assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
        assert "deletionTimestamp" not in made["metadata"]
        assert made["metadata"]["generation"] == 7  # a kind without generations keeps what it was given, as upstream
        assert (await api.create(CONFIGS, config("b", resourceVersion="5"))).status == 400
        # That is the last objection: an object that is wrong in itself is told so.
        assert (await api.create(CONFIGS, config("B!", resourceVersion="5"))).status == 422
        assert (await api.create(CONFIGS, config(made["metadata"]["name"], resourceVersion="5"))).status == 400

    api_server.run(scenario)


def test_names_are_made_from_their_beginning() -> None:
    async def scenario(api: Api) -> None:
        made = [(await api.create(CONFIGS, {"metadata": {"generateName": "g-"}})).ok() for _ in range(20)]
        names = {m["metadata"]["name"] for m in made}
        assert len(names) == 20
        assert all(n.startswith("g-") and len(n) == 7 for n in names)

    api_server.run(scenario)


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        (CONFIGS, config(namespace="kube-system"), 400),
        (CONFIGS, config(""), 422),
        (CONFIGS, config("Not_A_Name"), 422),
        ("/api/v1/namespaces/nowhere/configmaps", config(), 404),
        ("/api/v1/configmaps", config(), 405),
        (f"{CONFIGS}/a", config(), 405),
        (CONFIGS, {**config(), "kind": "Secret"}, 400),
        (CONFIGS, {**config(), "apiVersion": "v2"}, 400),
    ],
)
def test_a_create_that_contradicts_itself_is_refused(target: str, body: Any, status: int) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.create(target, body)).status == status

    api_server.run(scenario)


def test_an_update_needs_the_version_it_was_made_from_or_none() -> None:
    async def scenario(api: Api) -> None:
        old = (await api.create(CONFIGS, config())).ok()
        new = (await api.update(f"{CONFIGS}/a", {**old, "data": {"n": "1"}})).ok()
        assert new["metadata"]["uid"] == old["metadata"]["uid"]
        assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
        stale = await api.update(f"{CONFIGS}/a", {**old, "data": {"n": "2"}})
        assert (stale.status, stale.json["reason"]) == (409, "Conflict")
        for version in ("", "0"):
            (await api.update(f"{CONFIGS}/a", config(resourceVersion=version, labels={"v": version}))).ok()
        assert (await api.update(f"{CONFIGS}/a", config(resourceVersion="x"))).status == 400

    api_server.run(scenario)


@pytest.mark.parametrize(
    ("body", "status"), [(config("b"), 400), (config(""), 400), (config(namespace="x"), 400), (config(uid="x"), 409)]
)
def test_an_update_of_something_else_is_refused(body: Any, status: int) -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        assert (await api.update(f"{CONFIGS}/a", body)).status == status

    api_server.run(scenario)


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(CONFIGS, config())).ok()
        before = api.server.feed.revision
        assert (await api.update(f"{CONFIGS}/a", made)).ok() == made
        assert (await api.patch(f"{CONFIGS}/a", {"data": {"a": "b"}})).ok() == made
        assert api.server.feed.revision == before

    api_server.run(scenario)


def test_put_creates_where_the_kind_allows_it_and_the_user_may_create() -> None:
    updater = User("updater", groups=("updaters",))

    async def scenario(api: Api) -> None:
        assert (await api.update(f"{CONFIGS}/a", config())).status == 404
        lease = {"metadata": {"name": "l"}, "spec": {}}
        role = {
            "metadata": {"name": "updater", "namespace": "default"},
            "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"]}],
        }
        binding = {
            "metadata": {"name": "updater"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "updater"},
            "subjects": [{"kind": "User", "name": "updater", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        (await api.create(f"{rbac}/roles", role)).ok()
        (await api.create(f"{rbac}/rolebindings", binding)).ok()
        theirs = api.as_user(updater)
        assert (await theirs.update(f"{LEASES}/l", lease)).status == 403
        answer = await api.update(f"{LEASES}/l", lease)
        assert answer.status == 201
        assert (await theirs.update(f"{LEASES}/l", answer.json)).status == 200

    api_server.run(scenario, users=[updater])


def test_no_update_is_lost_among_many_writers() -> None:
    """Each adds its own key, from what it last read: all must be there in the end, conflicts or not."""

    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, {"metadata": {"name": "a"}})

        async def add(key: str) -> int:
            conflicts = 0
            while True:
                current = (await api.get(f"{CONFIGS}/a")).ok()
                current.setdefault("data", {})[key] = "x"
                await asyncio.sleep(0)
                answer = await api.update(f"{CONFIGS}/a", current)
                if answer.status == 200:
                    return conflicts
                assert answer.status == 409
                conflicts += 1

        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(add(f"k{n}")) for n in range(40)]
        assert sum(w.result() for w in writers) > 0
        assert len((await api.get(f"{CONFIGS}/a")).ok()["data"]) == 40

    api_server.run(scenario, store=SlowStore())


def test_patches_of_one_object_at_once_all_count_and_none_conflicts() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(api.patch(f"{CONFIGS}/a", {"data": {f"k{n}": "x"}})) for n in range(100)]
        assert {a.result().status for a in answers} == {200}
        assert len((await api.get(f"{CONFIGS}/a")).ok()["data"]) == 100

    api_server.run(scenario, store=SlowStore())


class SlowStore(MemoryStore):
    """Lets others run before it writes, as a disk does."""

    async def create(self, key: str, value: bytes) -> Record:
        await asyncio.sleep(0)
        return await super().create(key, value)

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        await asyncio.sleep(0)
        return await super().update(key, value, expected)

    async def delete(self, key: str, expected: Revision | None) -> Record:
        await asyncio.sleep(0)
        return await super().delete(key, expected)


def test_one_of_many_creates_of_a_name_wins() -> None:
    async def scenario(api: Api) -> None:
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(api.create(CONFIGS, config())) for _ in range(20)]
        assert sorted(a.result().status for a in answers) == [201] + [409] * 19

    api_server.run(scenario, store=SlowStore())


def test_a_delete_and_an_update_at_once_do_not_bring_the_object_back() -> None:
    async def scenario(api: Api) -> None:
        for number in range(30):
            made = (await api.create(CONFIGS, config())).ok()
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(api.patch(f"{CONFIGS}/a", {"data": {"n": str(number)}}))
                second = tasks.create_task(api.delete(f"{CONFIGS}/a"))
                third = tasks.create_task(api.update(f"{CONFIGS}/a", {**made, "data": {}}))
            assert second.result().status == 200
            assert first.result().status in (200, 404)
            assert third.result().status in (200, 404, 409)
            assert (await api.get(f"{CONFIGS}/a")).status == 404

    api_server.run(scenario, store=SlowStore())


def test_patches_of_every_kind() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        (await api.patch(f"{CONFIGS}/a", {"data": {"m": "1", "a": None}})).ok()
        (await api.patch(f"{CONFIGS}/a", {"data": {"s": "2"}}, "strategic-merge")).ok()
        operations = [
            {"op": "test", "path": "/data/m", "value": "1"},
            {"op": "add", "path": "/data/j", "value": "3"},
        ]
        patched = (await api.patch(f"{CONFIGS}/a", operations, "json")).ok()
        assert patched["data"] == {"m": "1", "s": "2", "j": "3"}
        failing = [{"op": "test", "path": "/data/m", "value": "other"}, *operations]
        assert (await api.patch(f"{CONFIGS}/a", failing, "json")).status == 422
        assert (await api.patch(f"{CONFIGS}/a", {"metadata": {"resourceVersion": "1"}})).status == 409
        assert (await api.patch(f"{CONFIGS}/a", {"metadata": {"uid": "other"}})).status == 422
        assert (await api.patch(f"{CONFIGS}/a", {"metadata": {"name": "other"}})).status == 400
        assert (await api.patch(f"{CONFIGS}/a?force=true", {})).status == 422
        assert (await api.patch(f"{CONFIGS}/b", {})).status == 404

    api_server.run(scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_dry_run_answers_as_if_and_changes_nothing(method: str) -> None:
    async def scenario(api: Api) -> None:
        if method != "POST":
            await api.create(CONFIGS, config())
        before = api.server.feed.revision
        state = (await api.get(CONFIGS)).ok()
        headers = {"content-type": "application/merge-patch+json"} if method == "PATCH" else {}
        target = CONFIGS if method == "POST" else f"{CONFIGS}/a"
        body: Any = b"" if method == "DELETE" else config(labels={"dry": "run"})
        answer = await api.request(method, f"{target}?dryRun=All", body, headers)
        assert 200 <= answer.status < 300
        if method != "DELETE":
            assert answer.json["metadata"]["labels"] == {"dry": "run"}
        assert (await api.get(CONFIGS)).ok() == state
        assert api.server.feed.revision == before
        assert not api.server.registry.objects.stores["configmaps"].cache._prepared
        assert (await api.request(method, f"{target}?dryRun=Some", body, headers)).status == 422

    api_server.run(scenario)


def test_a_dry_run_takes_no_address_for_good() -> None:
    """A range of few addresses: each dry run would use one up."""

    async def scenario(api: Api) -> None:
        for _ in range(20):
            (await api.create(f"{SERVICES}?dryRun=All", service())).ok()
        (await api.create(SERVICES, service())).ok()

    api_server.run(scenario, options={"service_cidr": "10.96.0.0/29"})


class FailingStore(MemoryStore):
    """Refuses every create of a Service while `is_full`."""

    is_full = False

    async def create(self, key: str, value: bytes) -> Record:
        if self.is_full:
            raise StoreUnavailable("disk full")
        return await super().create(key, value)


def test_addresses_come_back_from_every_create_that_fails() -> None:
    store = FailingStore()

    async def scenario(api: Api) -> None:
        (await api.create(SERVICES, service("first"))).ok()
        for _ in range(20):
            assert (await api.create(SERVICES, service("first"))).status == 409
        store.is_full = True
        for _ in range(20):
            assert (await api.create(SERVICES, service("x"))).status == 503
        store.is_full = False
        assert not api.server.registry.objects.stores["services"].cache._prepared
        made = [await api.create(SERVICES, service(f"s{n}")) for n in range(4)]
        assert [m.status for m in made] == [201] * 4
        for _ in range(20):
            (await api.delete(f"{SERVICES}/s0")).ok()
            (await api.create(SERVICES, service("s0"))).ok()

    api_server.run(scenario, store=store, options={"service_cidr": "10.96.0.0/29"})


def test_finalizers_hold_an_object_until_the_last_has_gone() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config(finalizers=["x.io/a", "x.io/b"]))
        held = (await api.delete(f"{CONFIGS}/a")).ok()
        assert held["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0
        again = (await api.delete(f"{CONFIGS}/a")).ok()
        assert again["metadata"] == held["metadata"]
        late = await api.create(CONFIGS, config())
        assert late.status == 409
        assert late.json["message"].startswith("object is being deleted: ")
        (await api.patch(f"{CONFIGS}/a", {"metadata": {"finalizers": ["x.io/b"]}})).ok()
        assert (await api.get(f"{CONFIGS}/a")).status == 200
        (await api.patch(f"{CONFIGS}/a", {"metadata": {"finalizers": None}})).ok()
        assert (await api.get(f"{CONFIGS}/a")).status == 404

    api_server.run(scenario)


def test_a_pod_takes_its_time_and_a_later_delete_can_only_hurry_it() -> None:
    async def scenario(api: Api) -> None:
        await make_pod(api)
        going = (await api.delete(f"{PODS}/web")).ok()["metadata"]
        assert (going["deletionTimestamp"], going["deletionGracePeriodSeconds"]) == ("2026-01-01T00:00:30Z", 30)
        slower = (await api.delete(f"{PODS}/web?gracePeriodSeconds=100")).ok()["metadata"]
        assert (slower["deletionTimestamp"], slower["deletionGracePeriodSeconds"]) == ("2026-01-01T00:00:30Z", 30)
        faster = (await api.delete(f"{PODS}/web?gracePeriodSeconds=5")).ok()["metadata"]
        assert (faster["deletionTimestamp"], faster["deletionGracePeriodSeconds"]) == ("2026-01-01T00:00:05Z", 5)
        # A status written meanwhile does not end it.
        (await api.patch(f"{PODS}/web/status", {"status": {"message": "m"}})).ok()
        assert (await api.get(f"{PODS}/web")).status == 200
        (await api.delete(f"{PODS}/web?gracePeriodSeconds=0")).ok()
        assert (await api.get(f"{PODS}/web")).status == 404

    api_server.run(scenario)


def test_a_grace_period_of_ages_is_no_fault() -> None:
    async def scenario(api: Api) -> None:
        await make_pod(api)
        assert (await api.delete(f"{PODS}/web?gracePeriodSeconds=9223372036854775807")).status == 200

    api_server.run(scenario)


@pytest.mark.parametrize(
    ("query", "body", "finalizers"),
    [
        ("?propagationPolicy=Foreground", b"", ["foregroundDeletion"]),
        ("?propagationPolicy=Orphan", b"", ["orphan"]),
        ("", {"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ("?orphanDependents=true", b"", ["orphan"]),
        ("?propagationPolicy=Background", b"", None),
        ("?orphanDependents=false", b"", None),
        ("", b"", None),
    ],
)
def test_what_becomes_of_dependents_is_left_to_the_collector(query: str, body: Any, finalizers: Any) -> None:
    async def scenario(api: Api) -> None:
        await api.create(DEPLOYMENTS, deployment())
        (await api.delete(f"{DEPLOYMENTS}/d{query}", body)).ok()
        after = await api.get(f"{DEPLOYMENTS}/d")
        if finalizers is None:
            assert after.status == 404
        else:
            assert after.json["metadata"]["finalizers"] == finalizers
            assert after.json["metadata"]["deletionTimestamp"]

    api_server.run(scenario)


def test_a_delete_is_refused_where_its_preconditions_do_not_hold() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(CONFIGS, config())).ok()["metadata"]
        for wanted in ({"uid": "other"}, {"resourceVersion": "1"}, {"uid": made["uid"], "resourceVersion": "1"}):
            refused = await api.delete(f"{CONFIGS}/a", {"preconditions": wanted})
            assert (refused.status, refused.json["reason"]) == (409, "Conflict")
        right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
        deleted = (await api.delete(f"{CONFIGS}/a", {"preconditions": right})).ok()
        assert deleted["status"] == "Success"
        assert deleted["details"] == {"name": "a", "kind": "configmaps", "uid": made["uid"]}
        assert (await api.delete(f"{CONFIGS}/a")).status == 404

    api_server.run(scenario)


@pytest.mark.parametrize(
    ("validation", "status", "warnings"),
    [
        ("Strict", 400, 0),
        ("Warn", 201, 3),
        ("", 201, 3),
        ("Ignore", 201, 0),
        ("Nonsense", 422, 0),
    ],
)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_unknown_and_repeated_fields(validation: str, status: int, warnings: int, form: str) -> None:
    body = b'{"metadata":{"name":"a","labels":{"l":"1","l":"2"},"more":1},"data":{"k":"v"},"extra":{"deep":true}}'
    if form == "yaml":
        body = b"metadata: {name: a, labels: {l: '1', l: '2'}, more: 1}\ndata: {k: v}\nextra: {deep: true}\n"

    async def scenario(api: Api) -> None:
        target = f"{CONFIGS}?fieldValidation={validation}" if validation else CONFIGS
        answer = await api.create(target, body, content_type=f"application/{form}")
        assert answer.status == status
        repeated = 'line 1: key "l" already set in map' if form == "yaml" else 'duplicate field "metadata.labels.l"'
        faults = [repeated, 'unknown field "metadata.more"', 'unknown field "extra"']
        told = [w.replace("\\", "") for w in answer.warnings]
        assert sorted(told) == (sorted(faults) if warnings else [])
        if validation == "Strict":
            assert (
                "cannot be handled as a" in answer.json["message"]
                and ": strict decoding error: " in answer.json["message"]
            )
            assert all(f in answer.json["message"] for f in faults)
        if status == 201:
            assert answer.json["metadata"]["labels"] == {"l": "2"}

    api_server.run(scenario)


def test_a_patch_is_held_to_the_same_strictness() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        strict = await api.patch(f"{CONFIGS}/a?fieldValidation=Strict", {"extra": 1})
        assert strict.status == 422
        assert 'strict decoding error: unknown field "extra"' in strict.json["message"]
        warned = await api.patch(f"{CONFIGS}/a", {"extra": 1, "data": {"n": "1"}})
        assert warned.ok()["data"]["n"] == "1"
        assert [w.replace("\\", "") for w in warned.warnings] == ['unknown field "extra"']

    api_server.run(scenario)


def test_generation_rises_with_the_spec_and_nothing_else() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(DEPLOYMENTS, deployment())).ok()
        assert made["metadata"]["generation"] == 1
        sent = {**deployment(), "metadata": {"name": "d", "labels": {"x": "y"}}}
        assert (await api.update(f"{DEPLOYMENTS}/d", sent)).ok()["metadata"]["generation"] == 1
        status = {"status": {"replicas": 1, "observedGeneration": 1}}
        assert (await api.patch(f"{DEPLOYMENTS}/d/status", status)).ok()["metadata"]["generation"] == 1
        assert (await api.patch(f"{DEPLOYMENTS}/d", {"spec": {"replicas": 3}})).ok()["metadata"]["generation"] == 2

    api_server.run(scenario)


def test_status_and_spec_are_written_apart() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}})).ok()
        assert made["status"].get("replicas") is None
        both = {**made, "spec": {**made["spec"], "replicas": 5}, "status": {"replicas": 4}}
        by_status = (await api.update(f"{DEPLOYMENTS}/d/status", both)).ok()
        assert (by_status["spec"]["replicas"], by_status["status"]["replicas"]) == (1, 4)
        both["metadata"] = by_status["metadata"]
        both["status"] = {"replicas": 7}
        by_spec = (await api.update(f"{DEPLOYMENTS}/d", both)).ok()
        assert (by_spec["spec"]["replicas"], by_spec["status"]["replicas"]) == (5, 4)
        assert (await api.get(f"{DEPLOYMENTS}/d/status")).ok() == by_spec

    api_server.run(scenario)


def test_a_cancelled_write_that_happens_keeps_its_address() -> None:
    """The client left while the store was writing: the Service exists, so its address must not be given out again."""

    async def scenario(api: Api) -> None:
        strategy = api.server.registry.objects.stores["services"].strategy
        [pool] = strategy.addresses._pools_now()  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as tasks:
            creating = tasks.create_task(api.create(SERVICES, service()))
            while not pool._pending:  # noqa: ASYNC110 - one turn at a time
                await asyncio.sleep(0)
            creating.cancel()
        assert len(pool._pending) == 1

    api_server.run(scenario, store=SlowStore())
