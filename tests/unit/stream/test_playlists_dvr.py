"""The longer playlist, for viewers who are behind, from version to version: the rules of a live playlist."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.events import Event
from broadcaster.hls import MediaPlaylist
from broadcaster.hls.parser import parse
from broadcaster.ipc.messages import DELAY_MEMORY
from tests.support.fakes.catalog_fixture import WINDOW, CatalogFixture
from tests.support.judges.playlist_rules import violations

SECONDS = 2.0  # of a segment, and the target duration


class Judge(list[Event]):
    """Hears of what happened, and looks each time at the playlists of viewers who are behind."""

    def __init__(self, stream: CatalogFixture) -> None:
        super().__init__()
        self.stream = stream
        self.looked_at: dict[str, object] = {}
        self.seen: dict[str, MediaPlaylist] = {}
        self.uris: dict[tuple[str, int], str] = {}  # what a number of a variant means
        self.ends = 0
        self.longest = 0  # segments

    def append(self, event: Event) -> None:
        super().append(event)
        self.look()

    def look(self) -> None:
        for variant, version in self.stream.channel.view.playlists.items():
            assert version.kept
            if version is self.looked_at.get(variant):
                continue
            self.looked_at[variant] = version
            playlist = parse(version.kept.render())
            assert isinstance(playlist, MediaPlaylist)
            previous = self.seen.get(variant)
            assert not violations(previous, playlist)
            for number, segment in enumerate(playlist.segments, playlist.media_sequence):
                if not segment.gap:
                    assert self.uris.setdefault((variant, number), segment.uri) == segment.uri
            self.ends += playlist.ended and not (previous and previous.ended)
            self.longest = max(self.longest, len(playlist.segments))
            self.seen[variant] = playlist


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[CatalogFixture]:
    """A service that keeps two minutes at most."""
    stream = CatalogFixture(tmp_path)
    stream.most = timedelta(minutes=2)
    yield stream
    stream.catalog.close()


def test_versions_follow_the_rules(stream: CatalogFixture) -> None:
    """Over reconnects, gaps, restarts, cuts, playlists that are outgrown, the end and the next stream."""
    judge = Judge(stream)
    stream.events = judge
    stream.restart()
    seconds, run = SECONDS, 0
    for how in ("outgrown", "ended", "ended"):
        for furthest in (60, 0, 30):
            run += 1
            stream.furthest = furthest
            stream.publish(run=run, count=16, seconds=seconds)
            stream.publish(run=run, seconds=seconds, lost=True)
            stream.restart()
            judge.look()
            stream.publish(run=run, count=10, seconds=seconds / 2)
            stream.now += timedelta(seconds=DELAY_MEMORY)
            stream.tick()
            judge.look()
        if how == "ended":
            stream.channel.end()
            stream.restart()
            judge.look()
        else:
            seconds *= 4
    assert judge.ends == 3 * len(judge.seen)
    assert judge.longest > 3 * WINDOW
