"""The stream as this process shows it: what ingest said last, ready to be sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from broadcaster.audience.snapshot import Snapshot
from broadcaster.feed import AnyVersion, Change, State, View


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

    def media(self, variant: str) -> Snapshot | None:
        """The media playlist of one variant."""
        return self._snapshots.get(variant)

    @property
    def state(self) -> State:
        """Where the stream stands."""
        return self.view.state

    def apply(self, change: Change) -> None:
        """Show it, and wake whoever waits for it; raises ValueError when it does not fit what came before."""
        self.show(change.onto(self.view))

    def show(self, view: View) -> None:
        """Put the new versions in the place of the old ones."""
        before, self.view = self._snapshots, view
        self._snapshots = {name: _kept(before.get(name), version) for name, version in view.playlists.items()}
        # Before anybody wakes up who asked under the main address.
        only = next((one for one in self._snapshots.values() if one.version is view.main), None)
        self.main = only or (_kept(self.main, view.main) if view.main else None)
        for name, old in before.items():
            if self._snapshots.get(name) is not old:
                old.superseded.set()


STREAM = web.AppKey("STREAM", Stream)


def _kept(before: Snapshot | None, version: AnyVersion) -> Snapshot:
    """The snapshot of a version; the one that there is, with all that it has rendered, if nothing is new."""
    return before if before and before.version is version else Snapshot(version)
