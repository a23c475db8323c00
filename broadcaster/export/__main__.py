"""The process that writes the file, started by ``remux_process``.

Its arguments are socket descriptors, one for each rendition. The first message on the first socket is the
plan. Errors are written to standard output.
"""

from __future__ import annotations

import os
import pickle
import resource
import socket
import sys
from typing import Any, BinaryIO, cast

from broadcaster.errors import ExportError
from broadcaster.export.remux import BUFFER, Remuxer
from broadcaster.export.remux_process import HEAD

# A backstop: what segments say of themselves may make a library ask for much.
LIMITS = {resource.RLIMIT_DATA: 2**29, resource.RLIMIT_CORE: 0}


def main(descriptors: list[int]) -> int:
    """Write the file and return the exit status."""
    for limit, most in LIMITS.items():
        _, hard = resource.getrlimit(limit)
        lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lowest, lowest))
    sockets = [socket.socket(fileno=one) for one in descriptors]
    streams = [cast(BinaryIO, one.makefile("rb", BUFFER)) for one in sockets]
    path, plan, in_fragments = _next(streams[0])
    try:
        Remuxer(path, plan, lambda number: _next(streams[number]), in_fragments=in_fragments).run()
    except ExportError as error:
        sys.stdout.write(str(error))
        return 1
    except MemoryError:
        sys.stdout.write("a segment needs more memory than it may have")
        return 1
    return 0


def _next(stream: BinaryIO) -> Any:  # noqa: ANN401 - what was sent
    """The next message of the stream."""
    (size,) = HEAD.unpack(_read(stream, HEAD.size))
    return pickle.loads(_read(stream, size))  # noqa: S301 - from who started this process


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read ``size`` bytes. At the end of the stream the parent is gone, and the process exits."""
    found = stream.read(size)
    if len(found) < size:
        os._exit(1)
    return found


if __name__ == "__main__":
    sys.exit(main([int(one) for one in sys.argv[1:]]))
