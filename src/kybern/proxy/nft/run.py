"""Run nft. Fed by sync.py with scripts; a process of its own, because libnftables loses memory and may abort.

Promises that a script is applied whole or not at all, and that an nft that hangs, or ends before it has read its
script, takes nothing of the proxy with it.
"""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO, Protocol

import msgspec

from kybern.proxy.nft import table
from kybern.proxy.nft.transaction import Existing

NFT = ("/usr/sbin/nft",)
_TIMEOUT = 60.0


class NftRefused(Exception):
    """nft did not apply a script; the message is what it said."""


class Nft(Protocol):
    """What the proxy asks of nftables."""

    async def apply(self, script: str) -> None:
        """All of the script or, with NftRefused, nothing."""
        ...

    async def existing(self) -> Existing | None:
        """What the proxy's table holds; None if there is no such table."""
        ...

    async def is_present(self) -> bool:
        """Whether the proxy's chains are in place: cheap, at any number of Services."""
        ...


class _Named(msgspec.Struct):
    name: str
    table: str = ""


class _Object(msgspec.Struct):
    chain: _Named | None = None
    set_: _Named | None = msgspec.field(default=None, name="set")
    map_: _Named | None = msgspec.field(default=None, name="map")


class _Listing(msgspec.Struct):
    nftables: list[_Object]


class NftCommand:
    """`Nft` by the nft command, which may have words before it (`ip netns exec node-1 nft`)."""

    def __init__(self, command: tuple[str, ...] = NFT) -> None:
        self._command = command

    async def apply(self, script: str) -> None:
        await self._run(["-f", "-"], script.encode())

    async def existing(self) -> Existing | None:
        try:
            text = await self._run(["-j", "-t", "list", "table", table.FAMILY, table.TABLE], b"")
        except NftRefused as refused:
            if "No such file or directory" in str(refused):
                return None
            raise
        objects = msgspec.json.decode(text, type=_Listing).nftables
        return Existing(
            chains=frozenset(o.chain.name for o in objects if o.chain),
            sets=frozenset(o.set_.name for o in objects if o.set_),
            maps=frozenset(o.map_.name for o in objects if o.map_),
        )

    async def is_present(self) -> bool:
        try:
            text = await self._run(["list", "chain", table.FAMILY, table.TABLE, "nat-prerouting"], b"")
        except NftRefused:
            return False
        return b"jump services" in text

    async def _run(self, arguments: list[str], script: bytes) -> bytes:
        with _in_memory(script) as given:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        try:
            async with asyncio.timeout(_TIMEOUT):
                output, errors = await process.communicate()
        except TimeoutError:
            raise NftRefused(f"nft did not answer within {_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise NftRefused(errors.decode(errors="replace").strip()[:2000] or f"nft ended with {process.returncode}")
        return output


def _in_memory(script: bytes) -> BinaryIO:
    """A file, not a pipe: whoever feeds a pipe to a process that ends early gets, from uvloop, an error that
    communicate() does not know."""
    file = os.fdopen(os.memfd_create("nft-script"), "w+b")
    file.write(script)
    file.seek(0)
    return file
