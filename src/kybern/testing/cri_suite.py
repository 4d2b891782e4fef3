"""The container runtime's contract as tests: FakeCri and real containerd pass the same ones.

Subclass `CriSuite` with `open_cri` and let pytest collect it. What the kubelet relies on is here, and nothing else.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import ContainerConfig, ContainerState, Cri, CriError, SandboxConfig, SandboxState

PATIENCE = 20.0  # seconds until a test gives up waiting for something that must come


class CriSuite:
    """The cases worth a name. Each works in a pod of its own and takes it away again."""

    image = "app:1"  # one that is there, and runs until it is stopped
    forever: tuple[str, ...] = ()  # a command that does

    async def open_cri(self) -> Cri:
        raise NotImplementedError

    def play(self, directory: Path, scenario: Callable[[Cri, SandboxConfig], Awaitable[None]]) -> None:
        async def run() -> None:
            cri = await self.open_cri()
            uid = str(uuid.uuid4())
            mine = {labels.POD_UID: uid, labels.POD_NAME: "suite", labels.POD_NAMESPACE: "test"}
            config = SandboxConfig("suite", uid, "test", 0, log_directory=str(directory), labels=mine)
            try:
                await scenario(cri, config)
            finally:
                for sandbox in await cri.list_sandboxes(uid):
                    await cri.remove_sandbox(sandbox.id)
                await cri.close()

        asyncio.run(run())

    async def container(self, cri: Cri, config: SandboxConfig, sandbox: contract.SandboxId, attempt: int = 0) -> str:
        image = await cri.image_status(self.image)
        assert image is not None, f"{self.image} is not there"
        made = ContainerConfig(
            "c",
            attempt,
            image.id,
            self.image,
            command=self.forever,
            labels={**config.labels, labels.CONTAINER_NAME: "c"},
            annotations={labels.HASH: "abc"},
            log_path=f"{attempt}.log",
        )
        return await cri.create_container(sandbox, made, config)

    def test_a_sandbox_has_an_address_until_it_is_stopped(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            sandbox = await cri.run_sandbox(config, "")
            status = await cri.sandbox_status(sandbox)
            assert status.ips
            assert status.sandbox.state is SandboxState.READY
            assert status.sandbox.labels == config.labels
            await cri.stop_sandbox(sandbox)
            await cri.stop_sandbox(sandbox)
            assert (await cri.list_sandboxes(config.uid))[0].state is SandboxState.NOT_READY
            await cri.remove_sandbox(sandbox)
            await cri.remove_sandbox(sandbox)
            assert not await cri.list_sandboxes(config.uid)

        self.play(tmp_path, scenario)

    def test_a_container_is_created_runs_and_ends(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            sandbox = await cri.run_sandbox(config, "")
            container = contract.ContainerId(await self.container(cri, config, sandbox))
            status = await cri.container_status(container)
            assert (status.state, status.attempt, status.started_at) == (ContainerState.CREATED, 0, 0)
            assert status.annotations[labels.HASH] == "abc"
            await cri.start_container(container)
            status = await cri.container_status(container)
            assert status.state is ContainerState.RUNNING
            assert status.started_at >= status.created_at or status.started_at > 0
            await cri.stop_container(container, 1)
            status = await cri.container_status(container)
            assert status.state is ContainerState.EXITED
            assert status.finished_at >= status.started_at
            await cri.stop_container(container, 1)
            await cri.remove_container(container)
            await cri.remove_container(container)
            with pytest.raises(CriError) as missing:
                await cri.container_status(container)
            assert missing.value.is_not_found

        self.play(tmp_path, scenario)

    def test_a_container_is_started_once(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            sandbox = await cri.run_sandbox(config, "")
            container = contract.ContainerId(await self.container(cri, config, sandbox))
            await cri.start_container(container)
            with pytest.raises(CriError):
                await cri.start_container(container)

        self.play(tmp_path, scenario)

    def test_stopping_a_sandbox_ends_what_runs_inside(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            sandbox = await cri.run_sandbox(config, "")
            container = contract.ContainerId(await self.container(cri, config, sandbox))
            await cri.start_container(container)
            await cri.stop_sandbox(sandbox)
            assert (await cri.container_status(container)).state is ContainerState.EXITED
            with pytest.raises(CriError):
                await self.container(cri, config, sandbox, attempt=1)
            await cri.remove_sandbox(sandbox)
            assert not await cri.list_containers(config.uid)

        self.play(tmp_path, scenario)

    def test_listings_can_be_narrowed_to_a_pod(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            sandbox = await cri.run_sandbox(config, "")
            container = await self.container(cri, config, sandbox)
            assert [c.id for c in await cri.list_containers(config.uid)] == [container]
            assert [c.sandbox_id for c in await cri.list_containers(config.uid)] == [sandbox]
            assert not await cri.list_containers("nobody")
            assert not await cri.list_sandboxes("nobody")

        self.play(tmp_path, scenario)

    def test_events_tell_of_starts_and_ends(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            seen: asyncio.Queue[str] = asyncio.Queue()

            async def listen() -> None:
                async for event in cri.events():
                    seen.put_nowait(event.container_id)

            async with asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(listen())
                await asyncio.sleep(0.2)
                sandbox = await cri.run_sandbox(config, "")
                container = contract.ContainerId(await self.container(cri, config, sandbox))
                await cri.start_container(container)
                await cri.stop_container(container, 0)
                found = 0
                async with asyncio.timeout(PATIENCE):
                    while found < 2:
                        found += await seen.get() == container
                listener.cancel()

        self.play(tmp_path, scenario)

    def test_what_is_not_there_is_said_to_be_missing(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            with pytest.raises(CriError) as missing:
                await cri.sandbox_status(contract.SandboxId("no-such-sandbox"))
            assert missing.value.is_not_found
            assert await cri.image_status("no.such/image:1") is None
            await cri.remove_image("no.such/image:1")

        self.play(tmp_path, scenario)

    def test_the_runtime_is_ready_and_knows_its_name(self, tmp_path: Path) -> None:
        async def scenario(cri: Cri, config: SandboxConfig) -> None:
            assert (await cri.version()).name
            assert (await cri.status()).problem("RuntimeReady") == ""

        self.play(tmp_path, scenario)
