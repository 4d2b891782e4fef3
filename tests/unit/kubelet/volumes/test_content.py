"""Projected volumes: who may read the token of a service account."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from kybern.api.core_v1 import (
    Container,
    Pod,
    PodSecurityContext,
    PodSpec,
    ProjectedVolumeSource,
    SecurityContext,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from kybern.kubelet.volumes import content
from kybern.kubelet.volumes.contract import File, NodeView, Request


class Tokens:
    async def token(self, pod: Pod, audience: str, lifetime: int) -> str:
        return "t"


NODE = NodeView(lambda *_: None, lambda *_: None, Tokens(), "n", ())


def token(tmp_path: pathlib.Path, security: PodSecurityContext | None, *users: int | None) -> File:
    containers = [Container(name=f"c{i}", securityContext=SecurityContext(runAsUser=u)) for i, u in enumerate(users)]
    part = VolumeProjection(serviceAccountToken=ServiceAccountTokenProjection(path="token"))
    volume = Volume(name="v", projected=ProjectedVolumeSource(sources=[part]))
    pod = Pod(spec=PodSpec(containers=containers, securityContext=security, volumes=[volume]))
    files = asyncio.run(content._project(Request(pod, volume, tmp_path, NODE), part, 0o644))
    return files["token"]


@pytest.mark.parametrize(
    ("user", "group", "mode", "owner"),
    [(None, None, 0o644, None), (1000, None, 0o600, 1000), (None, 10, 0o600, None), (1000, 10, 0o600, 1000)],
)
def test_a_token_belongs_to_the_user_and_to_the_group(tmp_path, user, group, mode, owner):
    found = token(tmp_path, PodSecurityContext(runAsUser=user, fsGroup=group), None, None)
    assert (found.mode, found.owner) == (mode, owner)


def test_a_token_of_containers_with_several_users_belongs_to_none_of_them(tmp_path):
    assert token(tmp_path, None, 1, 2).owner is None
    assert token(tmp_path, None, 7, 7).owner == 7
