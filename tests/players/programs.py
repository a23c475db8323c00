"""Players that are programs: mpv, ffmpeg and GStreamer, each with what counts its pictures.

Pictures and sound go nowhere, at the pace at which they would be seen and heard.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from broadcaster.demo.encoder import ffmpeg
from broadcaster.demo.processes import Child

# A status line is printed anew when what it says has changed: with every picture.
MPV = ("mpv", "--no-config", "--vo=null", "--ao=null", "--input-terminal=no")
STATUS = "--term-status-msg=at ${=time-pos}"
GSTREAMER = ("gst-launch-1.0", "-v", "playbin", "audio-sink=fakesink sync=true")
SINK = "video-sink=fakesink name=pictures sync=true silent=false"


def count_changes(log: str) -> int:
    """Of the time that mpv prints."""
    times = re.findall(r"at (-?[\d.]+)", log)
    return sum(moment != before for before, moment in itertools.pairwise(times))


def last_number(log: str) -> int:
    """The count that ffmpeg prints."""
    return int(([0, *re.findall(r"^frame=(\d+)$", log, re.MULTILINE)])[-1])


def count_messages(log: str) -> int:
    """Those that GStreamer's sink prints, one for each picture."""
    return len(re.findall(r"pictures.*last-message = .*chain", log))


PROGRAMS: dict[str, tuple[Callable[[str], list[str]], Callable[[str], int]]] = {
    "mpv": (lambda url: [*MPV, STATUS, url], count_changes),
    "ffmpeg": (
        lambda url: [*ffmpeg(), *("-re", "-i", url, "-progress", "pipe:1", "-f", "null", "-")],
        last_number,
    ),
    "GStreamer": (lambda url: [*GSTREAMER, SINK, f"uri={url}"], count_messages),
}


class Program:
    """One of ``PROGRAMS``, and its log, which is what is known of it."""

    def __init__(self, name: str, child: Child, count: Callable[[str], int]) -> None:
        self.name = name
        self._child = child
        self._count = count

    @classmethod
    async def start(cls, folder: Path, name: str, url: str) -> Self:
        """Let it play ``url``; without the program the test is skipped, but never in CI."""
        command, count = PROGRAMS[name]
        line = command(url)
        if shutil.which(line[0]) is None:
            missing = f"no {line[0]} is on the PATH"
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        return cls(name, await Child.start(name, line, folder / f"{name}.log"), count)

    async def stop(self) -> None:
        """End it."""
        await self._child.kill()

    async def pictures(self) -> int:
        """How many its log tells of; see ``Player``."""
        assert self._child.returncode is None, f"{self.name} has ended: {self._child.log_tail()}"
        return self._count(self._child.log.read_text(errors="replace"))
