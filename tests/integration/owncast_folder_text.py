"""The content of an Owncast's folder as text, in the form in which real folders were recorded."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

NOTHING, IDLE, LIVE, CLOSED, MIXED = "nothing", "idle", "live", "closed", "mixed"
SEGMENT = re.compile(r"stream-(?P<run>.+)-(?P<number>\d+)\.ts")


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at the folder; as it is in the middle of a stream of two variants, unless said otherwise."""

    remade: bool = False  # the folder is another one than before the step
    playlists: str = LIVE
    playlist_modes: frozenset[int] = frozenset({0o644})
    clip_modes: frozenset[int] = frozenset()
    folder_modes: frozenset[int] = frozenset({0o750})
    other_modes: frozenset[int] = frozenset({0o644})
    multivariant: tuple[str, ...] = ("0/stream.m3u8", "1/stream.m3u8")
    variants: tuple[str, ...] = ("0", "1")
    runs: frozenset[str] = frozenset({"this"})  # whose segments there are: this run's, an earlier one's, idle


class HlsFolder:
    """The folder ``path``, looked at now and then; it is there when a step begins.

    It is kept open during a step, because its inode's number may be given to the next one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._descriptor)

    def begin_step(self) -> None:
        self.close()
        self._descriptor = os.open(self._path, os.O_RDONLY)

    def look(self, run_id: str) -> Seen:
        """Look at everything. The folder has been remade when it is not the one that the step began with."""
        remade = os.fstat(self._descriptor).st_nlink == 0
        folders = [path for path in self._path.iterdir() if path.is_dir()]
        playlists = [path for folder in folders for path in folder.glob("*.m3u8")]
        clips = [path for folder in folders for path in folder.glob("offline.ts")]
        others = [
            path for path in self._path.rglob("*") if path.is_file() and path not in {*playlists, *clips}
        ]
        states = {_state(path) for path in playlists} or {NOTHING}
        return Seen(
            remade,
            states.pop() if len(states) == 1 else MIXED,
            _modes(playlists),
            _modes(clips),
            _modes([self._path, *folders]),
            _modes(others),
            self._multivariant(),
            tuple(sorted(folder.name for folder in folders)),
            frozenset(_whose(match["run"], run_id) for path in others if (match := SEGMENT.match(path.name))),
        )

    def text(self, variant: str = "0") -> str:
        return (self._path / variant / "stream.m3u8").read_text()

    def numbers(self, run_id: str, variant: str = "0") -> list[int]:
        """Which segments of the run are listed."""
        found = [SEGMENT.fullmatch(line) for line in self.text(variant).splitlines()]
        return [int(match["number"]) for match in found if match and match["run"] == run_id]

    def _multivariant(self) -> tuple[str, ...]:
        playlist = self._path / "stream.m3u8"
        lines = playlist.read_text().splitlines() if playlist.exists() else []
        return tuple(line for line in lines if line and not line.startswith("#"))


def _state(playlist: Path) -> str:
    text = playlist.read_text()
    if "#EXT-X-PLAYLIST-TYPE:EVENT" in text:
        return IDLE if text.endswith("#EXT-X-ENDLIST\n") else MIXED
    return CLOSED if text.endswith("offline.ts\n#EXT-X-ENDLIST\n") else LIVE


def _modes(paths: list[Path]) -> frozenset[int]:
    return frozenset(path.stat().st_mode & 0o777 for path in paths)


def _whose(run: str, this: str) -> str:
    return "this" if run == this else "idle" if run == "offline" else "earlier"
