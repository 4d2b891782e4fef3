"""Which container is meant, and what is said when there is none."""

from __future__ import annotations

import pytest

from kybern.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.server import containers
from kybern.machinery.status import ApiError

RUNNING = ContainerState(running=ContainerStateRunning())


def ended(container_id: str | None) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(containerID=container_id))


def waiting(reason: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason))


def pod(
    state: ContainerState, last: ContainerState | None = None, container_id: str | None = "containerd://now"
) -> Pod:
    status = ContainerStatus(name="c", state=state, lastState=last or ContainerState(), containerID=container_id)
    return Pod(
        metadata=ObjectMeta(name="p"),
        spec=PodSpec(containers=[Container(name="c"), Container(name="new")]),
        status=PodStatus(containerStatuses=[status]),
    )


def test_commands_run_in_running_containers_only() -> None:
    assert containers.find_running(pod(RUNNING), "c") == "now"
    for state in (ended("x"), waiting("CrashLoopBackOff")):
        with pytest.raises(ApiError, match="container not found"):
            containers.find_running(pod(state), "c")


@pytest.mark.parametrize(
    ("state", "last", "previous", "expected"),
    [
        (RUNNING, None, False, "now"),
        (RUNNING, ended("containerd://before"), True, "before"),
        (ended("containerd://now"), ended("containerd://before"), False, "now"),
        (waiting("CrashLoopBackOff"), ended("containerd://before"), False, "before"),
        (ended(None), ended("containerd://before"), False, "before"),
    ],
)
def test_the_log_of_the_newest_container_that_ran_is_meant(
    state: ContainerState, last: ContainerState | None, previous: bool, expected: str
) -> None:
    assert containers.find_logged(pod(state, last), "c", previous=previous) == expected


@pytest.mark.parametrize(
    ("state", "name", "previous", "code", "text"),
    [
        (RUNNING, "nobody", False, 404, 'container "nobody" in pod "p" is not available'),
        (RUNNING, "new", False, 400, 'container "new" in pod "p" is not available'),
        (RUNNING, "c", True, 400, 'previous terminated container "c" in pod "p" not found'),
        (waiting("ContainerCreating"), "c", False, 400, "is waiting to start: ContainerCreating"),
        (waiting("ErrImagePull"), "c", False, 400, "image can't be pulled"),
        (waiting("ImagePullBackOff"), "c", False, 400, "trying and failing to pull image"),
        (ended(None), "c", False, 400, "is terminated"),
    ],
)
def test_a_missing_log_is_explained(state: ContainerState, name: str, previous: bool, code: int, text: str) -> None:
    with pytest.raises(ApiError, match=text) as caught:
        containers.find_logged(pod(state), name, previous=previous)
    assert caught.value.code == code
