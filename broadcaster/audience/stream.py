"""The stream as this process shows it: what ingest said last, ready to be sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from broadcaster.audience.snapshot import AnyPlaylist, Snapshot
from broadcaster.feed import AnyVersion, Change, State, View
from broadcaster.hls import MultivariantPlaylist


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


class Stream:
    """Takes changes of what viewers see. ``clock`` gives the wall time."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self.clock = clock
        self.view = View()
        self.main: Snapshot | None = None  # the multivariant playlist, or that of an only variant
        self._snapshots: dict[str, Snapshot] = {}
        self.kept_main: Snapshot | None = None  # as ``main`` and ``media``, for those who are behind
        self._kept: dict[str, Snapshot] = {}

    def media(self, variant: str) -> Snapshot | None:
        """The media playlist of one variant."""
        return self._snapshots.get(variant)

    def kept(self, variant: str) -> Snapshot | None:
        """What that one lists for those who are behind."""
        return self._kept.get(variant)

    @property
    def state(self) -> State:
        """Where the stream stands."""
        return self.view.state

    def apply(self, change: Change) -> None:
        """Show it, and wake whoever waits for it; raises ValueError when it does not fit what came before."""
        self.show(change.onto(self.view))

    def show(self, view: View) -> None:
        """Put the new versions in the place of the old ones."""
        before, before_kept, self.view = self._snapshots, self._kept, view
        self._snapshots = {name: _same(before.get(name), version) for name, version in view.playlists.items()}
        self._kept = {
            name: _same(before_kept.get(name), version, version.kept)
            for name, version in view.playlists.items()
            if version.kept
        }
        # Before anybody wakes up who asked under the main address.
        only = next((name for name, one in view.playlists.items() if one is view.main), None)
        if only is not None:
            self.main, self.kept_main = self._snapshots[only], self._kept.get(only)
        else:
            self.main = _same(self.main, view.main) if view.main else None
            self.kept_main = None
            if self._kept and view.main and isinstance(view.main.playlist, MultivariantPlaylist):
                self.kept_main = Snapshot(view.main, _of_longer(view.main.playlist))
        for now, old in ((self._snapshots, before), (self._kept, before_kept)):
            for name, one in old.items():
                if now.get(name) is not one:
                    one.superseded.set()


STREAM = web.AppKey("STREAM", Stream)


def _same(before: Snapshot | None, version: AnyVersion, playlist: AnyPlaylist | None = None) -> Snapshot:
    """The snapshot of a version; the one that there is, with all that it has rendered, if nothing is new."""
    return before if before and before.version is version else Snapshot(version, playlist)


def _of_longer(main: MultivariantPlaylist) -> MultivariantPlaylist:
    """The same, of the playlists for those who are behind."""
    return main.renamed(lambda uri: f"{uri.removesuffix('playlist.m3u8')}kept.m3u8")
