"""Making the server known, on an API server of dictionaries."""

import asyncio

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.dns.register import Place, Registrar
from kybern.machinery.status import ApiError
from kybern.testing.clock import FakeClock
from kybern.testing.fake_api import FakeApi

PLACE = Place("here", "192.0.2.1", 10053, 9153)


def test_service_and_slice_are_made_kept_and_the_slice_taken_away() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        api = FakeApi(clock)
        registrar = Registrar(api.client(), clock, PLACE)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(registrar.run())
            await clock.advance(1)
            service = api.get(Service, "kube-system", "kube-dns")
            assert service is not None
            assert service.spec.clusterIP == "10.96.0.10"
            assert service.metadata.labels["k8s-app"] == "kube-dns"
            assert [(p.name, p.protocol, p.port) for p in service.spec.ports] == [
                ("dns", "UDP", 53),
                ("dns-tcp", "TCP", 53),
                ("metrics", "TCP", 9153),
            ]
            (piece,) = api.list(EndpointSlice, "kube-system")
            assert piece.endpoints[0].addresses == ["192.0.2.1"]
            assert [p.port for p in piece.ports] == [10053, 10053, 9153]
            assert piece.metadata.labels["kubernetes.io/service-name"] == "kube-dns"
            calls = len([c for c in api.calls if c.verb != "get"])
            await clock.advance(31)
            assert len([c for c in api.calls if c.verb != "get"]) == calls

            def break_it(obj: EndpointSlice) -> None:
                obj.endpoints[0].addresses = ["192.0.2.99"]

            api.edit(EndpointSlice, "kube-system", "kube-dns-here", break_it)
            api.remove(Service, "kube-system", "kube-dns")
            await clock.advance(31)
            assert api.list(EndpointSlice, "kube-system")[0].endpoints[0].addresses == ["192.0.2.1"]
            assert api.get(Service, "kube-system", "kube-dns") is not None
            task.cancel()
        assert api.list(EndpointSlice, "kube-system") == []
        assert api.get(Service, "kube-system", "kube-dns") is not None

    asyncio.run(scenario())


def test_a_server_that_is_not_ready_is_asked_again() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        api = FakeApi(clock)
        api.fail_next("create services", ApiError.unavailable("starting"), 2)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(Registrar(api.client(), clock, PLACE).run())
            await clock.advance(10)
            assert api.get(Service, "kube-system", "kube-dns") is not None
            task.cancel()

    asyncio.run(scenario())


def test_a_service_with_another_address_is_left_alone() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        api = FakeApi(clock)
        other = Place("here", "192.0.2.1", 10053, 9153, "10.96.0.99")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(Registrar(api.client(), clock, other).run())
            await clock.advance(1)
            second = tasks.create_task(Registrar(api.client(), clock, PLACE).run())
            await clock.advance(1)
            service = api.get(Service, "kube-system", "kube-dns")
            assert service is not None
            assert service.spec.clusterIP == "10.96.0.99"
            task.cancel()
            second.cancel()

    asyncio.run(scenario())
