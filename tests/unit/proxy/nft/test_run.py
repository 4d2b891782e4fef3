"""What the proxy gets from an nft that does not do as it should. The loop is the one the proxy runs on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from kybern.proxy.nft.run import NftCommand, NftRefused


def test_an_nft_that_ends_before_it_was_told_anything_is_a_refusal_and_no_fault() -> None:
    async def ask() -> list[bool]:
        return [await NftCommand(("/bin/false",)).is_present() for _ in range(40)]

    assert not any(uvloop.run(ask()))


def test_an_nft_that_does_not_read_a_long_script_is_heard_all_the_same() -> None:
    async def apply() -> None:
        for _ in range(20):
            with pytest.raises(NftRefused, match="nft ended with 1"):
                await NftCommand(("/bin/false",)).apply("x" * 3_000_000)

    uvloop.run(apply())


def test_the_script_arrives_whole() -> None:
    script = "".join(f"line {number}\n" for number in range(100_000))

    async def apply() -> None:
        command = NftCommand(("/bin/sh", "-c", f"test $(wc -c) = {len(script)}"))
        await asyncio.gather(*(command.apply(script) for _ in range(3)))

    uvloop.run(apply())
