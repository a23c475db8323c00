"""The process that writes the file: ``remuxing`` starts it, tells it what to write, and feeds it.

Arguments are its sockets, one for each rendition. What cannot be done is said on its standard output.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
from typing import BinaryIO, cast

from broadcaster.errors import ExportError
from broadcaster.export.remux import BUFFER, Remuxer
from broadcaster.export.remuxing import LENGTH


def main(descriptors: list[int]) -> int:
    """Write it; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for who feeds it, and who ends it then
    path, plan, in_fragments = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    sockets = [socket.socket(fileno=one) for one in descriptors]
    streams = [cast(BinaryIO, one.makefile("rb", BUFFER)) for one in sockets]
    try:
        Remuxer(path, plan, lambda number: _next(streams[number]), in_fragments=in_fragments).run()
    except ExportError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


def _next(stream: BinaryIO) -> bytes:
    """The next object. Where there is none nobody waits for the file any more, and nothing is put right."""
    head = stream.read(LENGTH.size)
    if len(head) == LENGTH.size:
        (size,) = LENGTH.unpack(head)
        body = stream.read(size)
        if len(body) == size:
            return body
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main([int(one) for one in sys.argv[1:]]))
