"""Jobs: their pods are told apart by the Job's uid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api.batch_v1 import Job
from kybern.api.meta_v1 import DeleteOptions, LabelSelector
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User

_PREFIX = "batch.kubernetes.io/"
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


class Jobs(Strategy):
    selected_from = ("status.succeeded",)

    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        job: Job = obj
        if not job.spec.manualSelector:
            _generate_selector(job)

    def warnings_on_delete(self, options: DeleteOptions) -> list[str]:
        return [] if options.propagationPolicy or options.orphanDependents is not None else [_ORPHANS]

    async def allocate(self, obj: Any, old: Any | None, *, dry_run: bool) -> Callable[[], None] | None:
        job: Job = obj
        if old is None and not job.metadata.labels and job.spec.template.metadata.labels:
            job.metadata.labels = dict(job.spec.template.metadata.labels)
        return None

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return super().selectable_fields(obj) | {"status.successful": str(obj.status.succeeded or 0)}


def _generate_selector(job: Job) -> None:
    labels = job.spec.template.metadata.labels
    uid, name = job.metadata.uid, job.metadata.name
    # Wrong values a client sent stay, for validation to refuse. The old spellings are kept for old clients.
    for key, value in (("controller-uid", uid), ("job-name", name)):
        labels.setdefault(key, value)
        labels.setdefault(_PREFIX + key, value)
    if job.spec.selector is None:
        job.spec.selector = LabelSelector()
    job.spec.selector.matchLabels.setdefault(_PREFIX + "controller-uid", uid)
