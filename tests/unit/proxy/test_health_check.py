"""What external load balancers are told."""

import asyncio
import socket
import urllib.error
import urllib.request

import msgspec

from kybern.client.clock import RealClock
from kybern.proxy.health_check import Checked, HealthChecks, answer
from kybern.proxy.ruleset import ServiceName

WEB = ServiceName("default", "web")


def test_a_node_with_endpoints_says_yes_and_how_many() -> None:
    said = answer(Checked(WEB, 2), True)
    assert said.status == 200
    assert msgspec.json.decode(said.body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert ("x-load-balancing-endpoint-weight", "2") in said.headers


def test_a_node_without_endpoints_or_with_a_sick_proxy_says_no() -> None:
    assert answer(Checked(WEB, 0), True).status == 503
    assert answer(Checked(WEB, 1), False).status == 503


def get(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_listeners_open_and_close_as_services_come_and_go() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        checks = HealthChecks(RealClock(), "127.0.0.1")

        async def eventually(status: int) -> None:
            async with asyncio.timeout(5):
                while await asyncio.to_thread(get, port) != status:  # noqa: ASYNC110 (a real socket)
                    await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(checks.run(lambda: True))
            checks.show({port: Checked(WEB, 1)})
            await eventually(200)
            checks.show({port: Checked(WEB, 0)})
            await eventually(503)
            checks.show({})
            await eventually(0)
            task.cancel()

    asyncio.run(scenario())
