"""Log files that grew too large."""

import gzip

from kybern.kubelet import log_rotation
from kybern.kubelet.cri import labels
from kybern.kubelet.cri.contract import ContainerConfig, CriError, SandboxConfig
from kybern.kubelet.log_rotation import Limits, LogRotation
from kybern.testing import clock as virtual
from kybern.testing.fake_cri import FakeCri


def test_the_oldest_files_go_first():
    names = ["0.log.20260101-000003", "0.log.20260101-000001.gz", "0.log.20260101-000002.gz"]
    assert log_rotation.plan_removal(names, Limits(files=3)) == ["0.log.20260101-000001.gz", "0.log.20260101-000002.gz"]
    assert log_rotation.plan_removal(names, Limits(files=5)) == []


def drive(tmp_path, scenario):
    async def main(clock):
        cri = FakeCri(clock)
        mine = {labels.POD_UID: "u"}
        sandbox = await cri.run_sandbox(SandboxConfig("p", "u", "ns", 0, log_directory=str(tmp_path), labels=mine), "")
        config = ContainerConfig("c", 0, "sha256:app:1", "app:1", labels=mine, log_path="0.log")
        container = await cri.create_container(sandbox, config, SandboxConfig("p", "u", "ns", 0))
        await cri.start_container(container)
        await scenario(LogRotation(cri, clock, Limits(size=10, files=3)), cri, clock)

    virtual.run(main)


def test_a_large_log_is_set_aside_and_older_ones_are_compressed(tmp_path):
    async def scenario(rotation, cri, clock):
        log = tmp_path / "0.log"
        for text in ("first" * 10, "second" * 10, "third" * 10):
            log.write_text(text)
            await rotation.rotate_all()
            assert not log.exists()
            await clock.sleep(1)
        names = sorted(p.name for p in tmp_path.iterdir())
        assert len(names) == 2
        assert names[0].endswith(".gz")
        assert gzip.decompress((tmp_path / names[0]).read_bytes()) == b"second" * 10
        assert cri.calls.count("reopen_log") == 3
        log.write_text("small")
        await rotation.rotate_all()
        assert log.exists()

    drive(tmp_path, scenario)


def test_a_log_that_cannot_be_reopened_keeps_its_name(tmp_path):
    async def scenario(rotation, cri, clock):
        (tmp_path / "0.log").write_text("x" * 100)
        cri.failures["reopen_log"] = [CriError("ReopenContainerLog", "Unknown", "no")]
        await rotation.rotate_all()
        assert [p.name for p in tmp_path.iterdir()] == ["0.log"]

    drive(tmp_path, scenario)
