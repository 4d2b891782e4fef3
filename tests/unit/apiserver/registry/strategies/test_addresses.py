"""Cluster IPs as objects: booked before a Service has them, let go after it. As a v1.36 API server does it."""

from __future__ import annotations

from typing import Any

from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

SERVICES = "/api/v1/namespaces/default/services"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def booked(api: Api) -> dict[str, str]:
    """Address -> the name of the Service."""
    items = (await api.get(ADDRESSES)).ok()["items"]
    return {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in items}


async def tidy(api: Api) -> None:
    await api.server.registry.objects.stores["services"].strategy.addresses.tidy()  # type: ignore[attr-defined]


def test_a_service_has_its_address_as_an_object() -> None:
    async def scenario(api: Api) -> None:
        ip = (await api.create(SERVICES, service("web"))).ok()["spec"]["clusterIP"]
        found = (await api.get(f"{ADDRESSES}/{ip}")).ok()
        assert found["spec"] == {
            "parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "web"}
        }
        assert found["metadata"]["labels"] == {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
        (await api.delete(f"{SERVICES}/web")).ok()
        await tidy(api)
        assert ip not in await booked(api)

    api_server.run(scenario)


def test_a_dry_run_books_nothing_and_a_refused_write_leaves_nothing() -> None:
    async def scenario(api: Api) -> None:
        before = await booked(api)
        (await api.create(f"{SERVICES}?dryRun=All", service("web"))).ok()
        refused = await api.create(SERVICES, service("web", type="NodePort", ports=[{"port": 80, "nodePort": 1}]))
        assert refused.status == 422
        await tidy(api)
        assert await booked(api) == before

    api_server.run(scenario)


def test_an_address_of_a_deleted_service_can_be_had_at_once() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(SERVICES, service("a", clusterIP="10.96.7.7"))).ok()
        (await api.delete(f"{SERVICES}/a")).ok()
        (await api.create(SERVICES, service("b", clusterIP="10.96.7.7"))).ok()
        assert (await booked(api))["10.96.7.7"] == "b"

    api_server.run(scenario)


def test_an_address_that_somebody_else_booked_is_taken() -> None:
    async def scenario(api: Api) -> None:
        parent = {"group": "gateways.example", "resource": "gateways", "namespace": "default", "name": "g"}
        (await api.create(ADDRESSES, {"metadata": {"name": "10.96.7.7"}, "spec": {"parentRef": parent}})).ok()
        refused = await api.create(SERVICES, service("a", clusterIP="10.96.7.7"))
        assert refused.status == 422
        assert "provided IP is already allocated" in refused.json["message"]
        await tidy(api)
        assert (await booked(api))["10.96.7.7"] == "g"

    api_server.run(scenario)


def test_what_another_server_is_about_to_use_is_left_alone_for_a_minute() -> None:
    clock = FakeClock()

    async def scenario(api: Api) -> None:
        labels = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
        parent = {"resource": "services", "namespace": "default", "name": "coming"}
        booking = {"metadata": {"name": "10.96.7.7", "labels": labels}, "spec": {"parentRef": parent}}
        (await api.create(ADDRESSES, booking)).ok()
        await tidy(api)
        assert (await booked(api))["10.96.7.7"] == "coming"
        clock.move(61)
        await tidy(api)
        assert "10.96.7.7" not in await booked(api)

    api_server.run(scenario, clock=clock)


def test_a_second_range_is_used_when_the_first_is_full_and_while_it_stays() -> None:
    async def scenario(api: Api) -> None:
        taken = 0
        while (await api.create(SERVICES, service(f"s{taken}"))).status == 201:
            taken += 1
        assert taken == 5  # of six addresses one is the API server's own
        (await api.create(CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/28"]}})).ok()
        assert (await api.create(SERVICES, service("more"))).ok()["spec"]["clusterIP"].startswith("10.200.0.")
        assert (await api.create(SERVICES, service("that", clusterIP="10.200.0.9"))).status == 201
        elsewhere = await api.create(SERVICES, service("other", clusterIP="10.201.0.9"))
        assert "the provided network does not match the current range" in elsewhere.json["message"]

    api_server.run(scenario, store=MemoryStore(), options={"service_cidr": "10.0.0.0/29"})


def test_services_of_an_older_store_get_their_objects() -> None:
    async def scenario(api: Api) -> None:
        ip = (await api.create(SERVICES, service("web"))).ok()["spec"]["clusterIP"]
        (await api.delete(f"{ADDRESSES}/{ip}")).ok()
        await tidy(api)
        assert (await booked(api))[ip] == "web"

    api_server.run(scenario)
