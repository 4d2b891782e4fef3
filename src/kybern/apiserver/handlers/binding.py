"""POST pods/binding (and the older bindings): a scheduler puts a pod on a node, once."""

from __future__ import annotations

from typing import Any

from kybern.api import scalars
from kybern.api.core_v1 import Binding, PodCondition
from kybern.apiserver import negotiate
from kybern.apiserver.admission import Attributes
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import names
from kybern.machinery.status import ApiError, FieldError, not_supported, required


async def bind(handlers: Handlers, request: Request, pods: Served) -> Response:
    """Status 201. Raises ApiError 400, 404, 409 (bound already), 422."""
    accepted = negotiate.choose_plain(request.headers.get("accept", ""))
    wanted = body.decode(request, Binding, "v1", "Binding")
    metadata.check_namespace(pods.resource, wanted.metadata, request.info.namespace)
    name = request.info.name or wanted.metadata.name or ""
    if not name:
        raise ApiError.bad_request("Name parameter required.")
    for fault in names.check_path_segment(name):
        raise ApiError.bad_request(f'Name parameter invalid: "{name}": {fault}')
    if wanted.metadata.name != name:
        raise ApiError.bad_request("name in URL does not match name in Binding object")
    wanted.metadata.namespace = request.info.namespace
    attributes = Attributes(
        operation="CREATE",
        resource=pods.resource,
        subresource="binding",
        namespace=request.info.namespace,
        name=name,
        object=wanted,
        old=None,
        user=request.user,
        dry_run=body.is_dry_run(request),
        warnings=request.warnings,
    )
    waiting = handlers.admit(attributes)
    if waiting is not None:
        await waiting
    assert isinstance(attributes.object, Binding)
    wanted = attributes.object
    errors = _faults(wanted)
    if errors:
        raise ApiError.invalid("", "Binding", name, errors)
    now = scalars.render_time(handlers.clock.now())

    def change(current: Entry) -> Any:
        pod = current.decode()
        _check(pod, wanted, name)
        pod.spec.nodeName = wanted.target.name
        pod.metadata.annotations.update(wanted.metadata.annotations)
        pod.metadata.labels.update(wanted.metadata.labels)
        if wanted.metadata.uid:
            pod.metadata.uid = wanted.metadata.uid
        pod.metadata.resourceVersion = wanted.metadata.resourceVersion
        others = [c for c in pod.status.conditions if c.type != "PodScheduled"]
        pod.status.conditions = [*others, PodCondition(type="PodScheduled", status="True", lastTransitionTime=now)]
        return pod

    write = Write(request.user, body.is_dry_run(request), "binding", warnings=request.warnings, admit=False)
    await pods.store.update(request.info.namespace, name, change, write)
    return forms.success(accepted)


def _faults(wanted: Binding) -> list[FieldError]:
    if wanted.target.kind not in (None, "", "Node"):
        return [not_supported("target.kind", wanted.target.kind, ("Node", "<empty>"))]
    if not wanted.target.name:
        return [required("target.name")]
    return []


def _check(pod: Any, wanted: Binding, name: str) -> None:
    if pod.metadata.deletionTimestamp is not None:
        raise ApiError.conflict("", "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if pod.spec.nodeName:
        why = f"pod {name} is already assigned to node {json_string(pod.spec.nodeName)}"
        raise ApiError.conflict("", "pods/binding", name, why)
    if pod.spec.schedulingGates:
        raise ApiError.conflict("", "pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")


def json_string(text: str) -> str:
    """Quoted as upstream quotes names in messages."""
    return f'"{text}"'
