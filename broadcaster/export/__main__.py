"""The process that writes the file: ``remuxing`` starts it, and feeds it.

Arguments are its sockets, one for each rendition; what to write comes first in the first of them. What cannot
be done is said on its standard output.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from typing import BinaryIO, cast

from broadcaster.errors import ExportError
from broadcaster.export.remux import BUFFER, Remuxer
from broadcaster.export.remuxing import HEAD


def main(descriptors: list[int]) -> int:
    """Write it; returns the exit status."""
    sockets = [socket.socket(fileno=one) for one in descriptors]
    streams = [cast(BinaryIO, one.makefile("rb", BUFFER)) for one in sockets]
    path, plan, in_fragments = pickle.loads(_next(streams[0]))  # noqa: S301 - from who started this process
    try:
        Remuxer(path, plan, lambda number: _next(streams[number]), in_fragments=in_fragments).run()
    except ExportError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


def _next(stream: BinaryIO) -> bytes:
    """The next object; raises ExportError where it is not where it should be."""
    is_place, size = HEAD.unpack(_read(stream, HEAD.size))
    if not is_place:
        return _read(stream, size)
    path, at, length = pickle.loads(_read(stream, size))  # noqa: S301 - from who started this process
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(at)
            found: bytes = file.read(length)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; the same command goes on") from None
    if len(found) < length:
        raise ExportError(f"{path} was changed by somebody else; the same command goes on")
    return found


def _read(stream: BinaryIO, size: int) -> bytes:
    """So many. Where they do not come nobody waits for the file any more, and nothing is put right."""
    found = stream.read(size)
    if len(found) < size:
        os._exit(1)
    return found


if __name__ == "__main__":
    sys.exit(main([int(one) for one in sys.argv[1:]]))
