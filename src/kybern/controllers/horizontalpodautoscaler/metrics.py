"""Ask the metrics APIs: metrics.k8s.io (resources), custom.metrics.k8s.io, external.metrics.k8s.io.

Called by reconcile. They are served by aggregated servers, which may be absent or send anything: whatever cannot be
used is an ApiError or a missing metric, never more.
"""

from __future__ import annotations

import datetime
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api import scalars
from kybern.api.meta_v1 import LabelSelector
from kybern.client.rest import RestClient
from kybern.machinery import labels, quantity, times
from kybern.machinery.status import ApiError

RESOURCES = "/apis/metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
DEFAULT_WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What one pod used: nano-units, measured at a time over a window (seconds)."""

    value: int
    at: datetime.datetime | None = None
    window: float = DEFAULT_WINDOW


class _Container(msgspec.Struct):
    name: str = ""
    usage: dict[str, str] = {}


class _Name(msgspec.Struct):
    name: str = ""


class _PodMetrics(msgspec.Struct):
    metadata: _Name = msgspec.field(default_factory=_Name)
    timestamp: str | None = None
    window: str | None = None
    containers: list[_Container] = []


class _Value(msgspec.Struct):
    value: str | int = "0"
    describedObject: _Name = msgspec.field(default_factory=_Name)
    timestamp: str | None = None
    windowSeconds: int | None = None


class _PodList(msgspec.Struct):
    items: list[_PodMetrics] = []


class _ValueList(msgspec.Struct):
    items: list[_Value] = []


_pods = msgspec.json.Decoder(_PodList)
_values = msgspec.json.Decoder(_ValueList)


class Metrics:
    """The metrics of one cluster."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def of_resource(self, namespace: str, selector: str, resource: str, container: str) -> dict[str, Sample]:
        """By pod, of one container or (with "") of all together. Pods that do not report the resource are left out."""
        path = f"{RESOURCES}/namespaces/{_quote(namespace)}/pods"
        found = await self._ask(path, {"labelSelector": selector}, _pods)
        samples: dict[str, Sample] = {}
        for item in found.items:
            usages = [c.usage.get(resource) for c in item.containers if not container or c.name == container]
            amounts = [_nano(text) for text in usages if text is not None]
            if amounts and len(amounts) == len(usages):
                at, window = _time(item.timestamp), _seconds(item.window)
                samples[item.metadata.name] = Sample(sum(amounts), at, window)
        if not samples:
            raise ApiError.internal(f"no metrics returned from resource metrics API for {resource}")
        return samples

    async def of_pods(
        self, namespace: str, selector: str, metric: str, wanted: LabelSelector | None
    ) -> dict[str, Sample]:
        """A custom metric of each pod."""
        path = f"{CUSTOM}/namespaces/{_quote(namespace)}/pods/*/{_quote(metric)}"
        query = {"labelSelector": selector, "metricLabelSelector": _render(wanted)}
        found = await self._ask(path, query, _values)
        if not found.items:
            raise ApiError.internal(f"no metrics returned from custom metrics API for {metric}")
        return {
            item.describedObject.name: Sample(
                _nano(item.value), _time(item.timestamp), float(item.windowSeconds or DEFAULT_WINDOW)
            )
            for item in found.items
        }

    async def of_object(
        self, namespace: str, resource: str, name: str, metric: str, wanted: LabelSelector | None
    ) -> int:
        """A custom metric of one object (`resource` as `plural.group`)."""
        if resource == "namespaces":
            path = f"{CUSTOM}/namespaces/{_quote(name)}/metrics/{_quote(metric)}"
        else:
            path = f"{CUSTOM}/namespaces/{_quote(namespace)}/{_quote(resource)}/{_quote(name)}/{_quote(metric)}"
        found = await self._ask(path, {"metricLabelSelector": _render(wanted)}, _values)
        if len(found.items) != 1:
            raise ApiError.internal(f"the custom metrics API returned {len(found.items)} values for {metric}, not one")
        return _nano(found.items[0].value)

    async def of_outside(self, namespace: str, metric: str, wanted: LabelSelector | None) -> int:
        """The sum of an external metric."""
        path = f"{EXTERNAL}/namespaces/{_quote(namespace)}/{_quote(metric)}"
        found = await self._ask(path, {"labelSelector": _render(wanted)}, _values)
        if not found.items:
            raise ApiError.internal(f"no metrics returned from external metrics API for {metric}")
        return sum(_nano(item.value) for item in found.items)

    async def _ask(self, path: str, query: Mapping[str, str], decoder: Any) -> Any:
        answer = await self._client.request("GET", path, query=query)
        try:
            return decoder.decode(answer.body)
        except msgspec.DecodeError as error:
            raise ApiError.internal(f"cannot decode what the server sent for {path}: {error}") from error


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _render(selector: LabelSelector | None) -> str:
    return str(labels.from_label_selector(selector)) if selector is not None else ""


def _nano(value: str | int) -> int:
    try:
        return quantity.nano(str(value))
    except ValueError as error:
        raise ApiError.internal(f"not a quantity in a metric: {value!r}") from error


def _time(text: str | None) -> datetime.datetime | None:
    try:
        return scalars.parse_time(text) if text else None
    except ValueError:
        return None


def _seconds(text: str | None) -> float:
    try:
        return times.parse_duration(text) if text else DEFAULT_WINDOW
    except ValueError:
        return DEFAULT_WINDOW
