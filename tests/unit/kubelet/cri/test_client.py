"""Addresses of runtimes, and messages there and back."""

import pytest

from kybern.kubelet.cri import client, contract, messages


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("unix:///run/c.sock", "unix:///run/c.sock"),
        ("/run/c.sock", "unix:/run/c.sock"),
        ("tcp://127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_endpoints_become_targets(endpoint, target):
    assert client.socket_target(endpoint) == target


def test_an_endpoint_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="unix://"):
        client.socket_target("npipe://x")


def test_status_codes_are_named_as_in_go():
    grpc = pytest.importorskip("grpc")
    assert client._code_name(grpc.StatusCode.NOT_FOUND) == "NotFound"
    assert client._code_name(grpc.StatusCode.UNIMPLEMENTED) == "Unimplemented"
    assert client._code_name(grpc.StatusCode.DEADLINE_EXCEEDED) == "DeadlineExceeded"


def test_an_id_of_root_is_told_and_no_id_is_not():
    asked = messages.container_config(
        contract.ContainerConfig("c", 2, "img", "i:1", security=contract.ContainerSecurity(run_as_user=0))
    )
    assert asked.linux.security_context.HasField("run_as_user")
    assert not asked.linux.security_context.HasField("run_as_group")
    assert asked.metadata.attempt == 2


def test_environment_values_keep_bytes_that_are_no_text():
    asked = messages.container_config(contract.ContainerConfig("c", 0, "i", "i", env=(("K", "v\udcff"),)))
    assert asked.envs[0].value == b"v\xff"


def test_signals_have_the_numbers_of_the_cri():
    assert messages.SIGNALS.index("SIGTERM") == 23
    assert messages.SIGNALS.index("SIGUSR1") == 29
    assert messages.SIGNALS.index("SIGRTMAX") == 65


def test_resources_survive_the_way_there_and_back():
    given = contract.Resources(cpu_period=1, cpu_quota=-1, cpu_shares=3, memory_limit=4, oom_score_adj=-5)
    assert messages._resources_back(messages.resources(given)) == given
