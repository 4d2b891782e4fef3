from kybern.machinery import metrics
from kybern.machinery.health import Counts, Health, Milestones


def health(endpoint: str = "readyz", **faults: str) -> Health:
    return Health(endpoint, {name: (lambda fault=fault: fault) for name, fault in faults.items()})


def test_ok_is_all_that_is_said_while_all_is_well() -> None:
    assert health(ping="").answer("/readyz", {}) == (200, "ok")


def test_the_list_is_told_to_who_wants_it() -> None:
    expected = (200, "[+]ping ok\n[+]log ok\nreadyz check passed\n")
    assert health(ping="", log="").answer("/readyz", {"verbose": [""]}) == expected


def test_a_failure_is_listed_without_its_reason() -> None:
    expected = (500, "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n")
    assert health(ping="", shutdown="process is shutting down").answer("/readyz", {}) == expected


def test_a_single_check_tells_its_reason() -> None:
    both = health(ping="", etcd="no quorum")
    assert both.answer("/readyz/ping", {}) == (200, "ok")
    assert both.answer("/readyz/etcd", {}) == (500, "internal server error: no quorum\n")


def test_a_check_that_there_is_not_is_not_found() -> None:
    for path in ("/readyz/nosuch", "/readyz/ping/", "/readyz/"):
        assert health(ping="").answer(path, {}) == (404, "404 page not found\n"), path


def test_what_is_excluded_does_not_fail() -> None:
    both = health(ping="", etcd="no quorum")
    assert both.answer("/readyz", {"exclude": ["etcd"]}) == (200, "ok")
    expected = "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n"
    assert both.answer("/readyz", {"exclude": ["etcd"], "verbose": [""]}) == (200, expected)


def test_an_exclusion_of_what_there_is_not_is_a_warning() -> None:
    expected = '[+]ping ok\nwarn: some health checks cannot be excluded: no matches for "nosuch"\nreadyz check passed\n'
    assert health(ping="").answer("/readyz", {"exclude": ["nosuch", ""], "verbose": ["false"]}) == (200, expected)


def test_what_was_found_is_counted() -> None:
    registry = metrics.Registry()
    counted = Health("livez", {"ping": lambda: "", "etcd": lambda: "gone"}, Counts(registry, 5.0))
    counted.answer("/livez", {})
    counted.answer("/livez/ping", {})
    text = registry.render().decode()
    assert "process_start_time_seconds 5" in text
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 0' in text
    assert 'kubernetes_healthchecks_total{name="etcd",status="error",type="livez"} 1' in text
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2' in text


def test_a_milestone_fails_until_it_is_reached() -> None:
    hooks = Milestones("a", "b")
    checks = hooks.checks()
    assert (checks["a"](), checks["b"]()) == ("not finished", "not finished")
    hooks.done("b")
    assert (checks["a"](), checks["b"]()) == ("not finished", "")
