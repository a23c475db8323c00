"""A scanner over MediaMTX's folder: publishers that come and go, torn playlists, segments that grow."""

from pathlib import Path
from random import Random

import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.events import SourceEnded
from broadcaster.source.owncast_names import encoder_id
from broadcaster.source.scanner import Scanner
from tests.support.fakes.mediamtx_folder import MediaMtxLife
from tests.support.length import seconds

POLL = 0.25


class Follower:
    """Scans after each change, as inotify has it, and whenever the scanner wants to."""

    def __init__(self, life: MediaMtxLife) -> None:
        self.life = life
        self.scanner = Scanner(life.folder, life.now, SourceSnapshot())
        self.segments: list[Segment] = []
        self.bytes: dict[str, bytes] = {}
        self.ended = False

    def live(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until, next_scan = self.life.time + seconds, self.life.time
        while min(self.life.next_at, next_scan) <= until:
            if self.life.next_at <= next_scan:
                self.life.step()
                next_scan = self.life.time
            else:
                self.life.time = next_scan
                for event in self.scanner.scan(1000 + self.life.time):
                    self._take(event)
                next_scan = self.life.time + min(self.scanner.pause or POLL, POLL) + 1e-6
        self.life.time = until

    def _take(self, event: object) -> None:
        self.ended |= isinstance(event, SourceEnded)
        if isinstance(event, Segment):
            self.segments.append(event)
            if event.file:
                self.bytes[event.name] = event.file.read()

    def check(self) -> None:
        """All that was listed is reported, whole and once, each publisher as a run of its own."""
        names = [segment.name for segment in self.segments]
        assert len(names) == len(set(names))
        assert {name: self.bytes.get(name) for name in self.life.listed} == self.life.listed
        assert set(names) == set(self.life.listed), "nothing that is not whole is reported"
        runs = dict.fromkeys((segment.run.number, encoder_id(segment.uri)) for segment in self.segments)
        publishers = [
            publisher for publisher in self.life.publishers if any(publisher in name for name in names)
        ]
        assert [encoder for _, encoder in runs] == publishers
        assert [number for number, _ in runs] == sorted({number for number, _ in runs})
        for before, after in zip(self.segments, self.segments[1:], strict=False):
            assert before.run != after.run or before.sequence < after.sequence


@pytest.mark.parametrize("seed", range(seconds(200, 12)))
def test_ten_publishes(tmp_path: Path, seed: int) -> None:
    """Of ten publishers with pauses of 0.5 to 90 s every listed segment is taken, in its order."""
    random = Random(seed)
    life = MediaMtxLife(tmp_path / "hls/live", random)
    follower = Follower(life)
    for _ in range(10):
        lasts = random.uniform(1, 16)
        life.publish(lasts)
        follower.live(lasts + random.choice([0.5, 3, 20, 90]))
    follower.check()
    assert life.torn
    assert not follower.ended


def test_a_slate_and_back(tmp_path: Path) -> None:
    """Publishers over a slate: segments go on, of uneven length, and nothing ends and nothing is lost."""
    life = MediaMtxLife(tmp_path / "hls/live", Random(1), slate=True)
    follower = Follower(life)
    for _ in range(6):
        life.publish(10)
        follower.live(10 + 3)
    follower.check()
    assert len({segment.run for segment in follower.segments}) == 1
    assert len(follower.segments) > 30
    assert not follower.ended


def test_a_restart_of_mediamtx(tmp_path: Path) -> None:
    """A folder that is emptied and made again is followed on."""
    life = MediaMtxLife(tmp_path / "hls/live", Random(2))
    follower = Follower(life)
    life.publish(60)
    follower.live(11)
    life.restart()
    follower.live(3)
    life.publish(10)
    follower.live(14)
    follower.check()
    assert len({segment.run for segment in follower.segments}) == 2


def test_manners(tmp_path: Path) -> None:
    """As a real MediaMTX: files grow in steps of 4 KiB, and vanish with the publisher; playlists stay."""
    life = MediaMtxLife(tmp_path / "live", Random(1))
    sizes, texts = set[int](), set[str]()
    life.publish(29)
    while life.next_at < 29:
        life.step()
        sizes |= {path.stat().st_size for path in life.folder.glob("*_main_seg1.ts")}
        texts |= {path.read_text() for path in life.folder.glob("main_stream.m3u8")}
        assert not any("seg1.ts" in text for text in texts) or max(sizes) % 188 == 0
    whole = max(sizes)
    assert sizes == {*range(0, whole, 4096), whole}
    assert any(not text.endswith(".ts\n") for text in texts), "torn"
    life.step()
    assert sorted(path.name for path in life.folder.iterdir()) == ["index.m3u8", "main_stream.m3u8"]
