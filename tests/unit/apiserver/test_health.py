from kybern.testing import api_server
from kybern.testing.api_server import Api


def test_the_named_checks_are_upstreams() -> None:
    async def scenario(api: Api) -> None:
        text = (await api.get("/readyz?verbose")).body.decode()
        assert text.startswith("[+]ping ok\n[+]log ok\n[+]informer-sync ok\n[+]poststarthook/")
        assert text.endswith("[+]shutdown ok\nreadyz check passed\n")
        assert "[+]etcd ok" in (await api.get("/livez?verbose")).body.decode()
        assert (await api.get("/healthz/poststarthook/rbac/bootstrap-roles")).body == b"ok"
        missing = await api.get("/livez/nosuch")
        assert (missing.status, missing.body) == (404, b"404 page not found\n")

    api_server.run(scenario)


def test_a_server_that_ends_is_not_ready_and_goes_on_serving() -> None:
    async def scenario(api: Api) -> None:
        api.server.begin_shutdown()
        answer = await api.get("/readyz")
        assert answer.status == 500
        assert answer.body.endswith(b"[-]shutdown failed: reason withheld\nreadyz check failed\n")
        assert (await api.get("/livez")).status == 200
        assert (await api.get("/api/v1/namespaces")).status == 200
        api.server.refuse_new()
        assert (await api.get("/api/v1/namespaces")).status == 200  # nobody asked for more

    api_server.run(scenario)


def test_late_requests_are_told_to_come_again_where_that_is_asked_for() -> None:
    async def scenario(api: Api) -> None:
        api.server.begin_shutdown()
        api.server.refuse_new()
        answer = await api.get("/api/v1/namespaces")
        assert answer.status == 429
        assert answer.headers["retry-after"] == "5"
        assert (await api.get("/livez")).status == 200

    api_server.run(scenario, options={"shutdown_send_retry_after": True})


def test_indicators_of_components_are_served() -> None:
    async def scenario(api: Api) -> None:
        await api.get("/livez")
        text = (await api.get("/metrics/slis")).body.decode()
        assert 'kubernetes_healthcheck{name="ping",type="livez"} 1' in text
        flags = (await api.get("/flagz")).body.decode()
        assert flags.startswith("\napiserver flagz\nWarning: This endpoint is not meant")
        assert "secure-port=6443" in flags
        assert "Binary version: 1.36.0" in (await api.get("/statusz")).body.decode()

    api_server.run(scenario, options={"flags": {"secure_port": 6443}})
