"""Find what a request names: a pod of this node, and one of its containers. Pure; used by application."""

from __future__ import annotations

from kybern.api.core_v1 import ContainerStatus, Pod
from kybern.kubelet.cri.contract import ContainerId
from kybern.kubelet.server.contract import PodSource
from kybern.machinery.status import ApiError


def find_pod(pods: PodSource, namespace: str, name: str, uid: str = "") -> Pod:
    """Raises ApiError (404)."""
    pod = pods.find(namespace, name)
    if pod is None or (uid and pod.metadata.uid != uid):
        raise ApiError.make(404, "NotFound", f'pod "{name}" not found')
    return pod


def _statuses(pod: Pod) -> list[ContainerStatus]:
    status = pod.status
    return [*status.containerStatuses, *status.initContainerStatuses, *status.ephemeralContainerStatuses]


def _has_container(pod: Pod, name: str) -> bool:
    spec = pod.spec
    names = [c.name for c in spec.containers] + [c.name for c in spec.initContainers]
    return name in names or any(c.name == name for c in spec.ephemeralContainers)


def bare_id(container_id: str | None) -> ContainerId:
    """`containerd://<id>` without the runtime's name."""
    return ContainerId((container_id or "").rpartition("://")[2])


def find_running(pod: Pod, name: str) -> ContainerId:
    """The container to run something in. Raises ApiError (404)."""
    for status in _statuses(pod):
        if status.name == name and status.state.running is not None and status.containerID:
            return bare_id(status.containerID)
    raise ApiError.make(404, "NotFound", f'container not found ("{name}")')


def find_logged(pod: Pod, name: str, *, previous: bool) -> ContainerId:
    """The container whose log is meant: the current one, or with `previous` the one before.

    Raises ApiError: 404 for a name the pod does not have, 400 when there is no log yet.
    """
    pod_name = pod.metadata.name
    if not _has_container(pod, name):
        raise ApiError.make(404, "NotFound", f'container "{name}" in pod "{pod_name}" is not available')
    status = next((s for s in _statuses(pod) if s.name == name), None)
    if status is None:
        raise ApiError.bad_request(f'container "{name}" in pod "{pod_name}" is not available')
    last = status.lastState.terminated
    if previous:
        if last is None or not last.containerID:
            raise ApiError.bad_request(f'previous terminated container "{name}" in pod "{pod_name}" not found')
        return bare_id(last.containerID)
    state = status.state
    if state.running is not None:
        return bare_id(status.containerID)
    if state.terminated is not None:
        if state.terminated.containerID:
            return bare_id(state.terminated.containerID)
        if last is not None and last.containerID:
            return bare_id(last.containerID)
        raise ApiError.bad_request(f'container "{name}" in pod "{pod_name}" is terminated')
    if last is not None and last.containerID:
        return bare_id(last.containerID)  # it waits to be started again
    reason = state.waiting.reason if state.waiting is not None else None
    if reason == "ErrImagePull":
        raise ApiError.bad_request(
            f'container "{name}" in pod "{pod_name}" is waiting to start: image can\'t be pulled'
        )
    if reason == "ImagePullBackOff":
        raise ApiError.bad_request(
            f'container "{name}" in pod "{pod_name}" is waiting to start: trying and failing to pull image'
        )
    raise ApiError.bad_request(f'container "{name}" in pod "{pod_name}" is waiting to start: {reason or "unknown"}')
