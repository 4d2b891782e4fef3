"""One question to a container."""

import asyncio

import pytest

from kybern.api.core_v1 import Container, ExecAction, GRPCAction, Probe, TCPSocketAction
from kybern.kubelet.cri.contract import CriError, ExecResult
from kybern.kubelet.probes import check
from kybern.kubelet.probes.check import Verdict


class Runtime:
    """Only ExecSync."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def exec_sync(self, container, command, timeout):
        self.asked.append((container, list(command), timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask(probe, runtime=None, container=None):
    return asyncio.run(check.check(runtime, probe, container or Container(name="c"), "id", "127.0.0.1"))


def test_exec_passes_by_its_exit_code():
    runtime = Runtime(ExecResult(b"out", b"err", 0))
    assert ask(Probe(exec=ExecAction(command=["true"]), timeoutSeconds=3), runtime).verdict is Verdict.SUCCESS
    assert runtime.asked == [("id", ["true"], 3.0)]
    failed = ask(Probe(exec=ExecAction(command=["x"])), Runtime(ExecResult(b"out", b"err", 1)))
    assert (failed.verdict, failed.output) == (Verdict.FAILURE, "outerr")


def test_a_command_that_takes_too_long_fails_and_one_that_cannot_run_proves_nothing():
    late = ask(Probe(exec=ExecAction(command=["sleep", "9"])), Runtime(CriError("ExecSync", "DeadlineExceeded", "")))
    assert (late.verdict, late.output) == (Verdict.FAILURE, 'command timed out: "sleep 9" timed out after 1s')
    broken = ask(Probe(exec=ExecAction(command=["x"])), Runtime(CriError("ExecSync", "Unknown", "no shim")))
    assert broken.verdict is Verdict.UNKNOWN


def test_tcp_passes_when_somebody_listens():
    async def main():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probe = Probe(tcpSocket=TCPSocketAction(port=port))
        first = await check.check(None, probe, Container(name="c"), "id", "127.0.0.1")
        server.close()
        await server.wait_closed()
        second = await check.check(None, probe, Container(name="c"), "id", "127.0.0.1")
        return first, second

    first, second = asyncio.run(main())
    assert first.verdict is Verdict.SUCCESS
    assert second.verdict is Verdict.FAILURE
    assert "connection refused" in second.output


@pytest.mark.thorough
def test_grpc_without_a_server_fails_in_time():
    result = ask(Probe(grpc=GRPCAction(port=1, service="x"), timeoutSeconds=1))
    assert result.verdict is Verdict.FAILURE


def test_the_health_messages_of_grpc_are_one_field_each():
    assert check.encode_health_request("") == b""
    assert check.encode_health_request("abc") == b"\x0a\x03abc"
    assert check.encode_health_request("x" * 200)[:3] == b"\x0a\xc8\x01"
    assert check.decode_health_status(b"\x08\x01") == 1
    assert check.decode_health_status(b"") == 0
