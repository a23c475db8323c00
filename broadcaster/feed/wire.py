"""Messages as bytes on a socket pair: four bytes of length, and JSON.

JSON, because neither side has to trust the other: what ingest reads comes from a process that strangers
talk to.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Annotated

from pydantic import Field, TypeAdapter

from broadcaster.feed.clips import ClipAnswer
from broadcaster.feed.messages import Change, Ended, Listed, Ping, Pong, Setup, Started
from broadcaster.feed.recordings import Recordings, SignedPlaylist

LENGTH = struct.Struct("!I")
MAX_PONG = 2**20  # bytes

Message = Setup | Change | Listed | Started | Ended | Recordings | SignedPlaylist | ClipAnswer | Ping

_messages: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
_pongs: TypeAdapter[Pong] = TypeAdapter(Pong)


def encode(message: Message) -> bytes:
    """For the audience process."""
    return _framed(_messages.dump_json(message))


def encode_pong(pong: Pong) -> bytes:
    """For ingest."""
    return _framed(_pongs.dump_json(pong))


def decode(body: bytes) -> Message:
    """A message without its length; raises ValueError."""
    return _messages.validate_json(body)


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message for the audience process; raises EOFError when ingest has gone or is done."""
    return decode(await _frame(reader))


async def receive_pong(reader: asyncio.StreamReader) -> Pong:
    """The next answer of the audience process.

    Raises EOFError when that has gone, ValueError for what is no answer, or one of more than 1 MiB.
    """
    return _pongs.validate_json(await _frame(reader, MAX_PONG))


def _framed(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


async def _frame(reader: asyncio.StreamReader, most: int | None = None) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if most is not None and length > most:
        raise ValueError(f"a message of {length} bytes")
    return await reader.readexactly(length)
