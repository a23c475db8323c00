"""Which of a folder's playlists are followed; what is not followed is said."""

import itertools
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.events import VariantsListed
from broadcaster.hls import MultivariantPlaylist, Rendition, Variant, parse
from broadcaster.own_files import open_beneath
from broadcaster.source.scanner import MAX_PLAYLISTS, Scanner
from tests.support.fakes.hls_writer import HlsWriter, age


class Folder:
    """A folder, and a scanner that looks at it when the test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = HlsWriter(root / "0")
        self.scanner = Scanner(root, lambda: datetime.now(UTC), SourceSnapshot())
        self.now = 100.0
        self.listed_now = VariantsListed()

    def names(self) -> list[str]:
        """What two looks bring, as variant/name."""
        found: list[str] = []
        for _ in range(2):
            self.now += 0.2
            for event in self.scanner.scan(self.now):
                if isinstance(event, Segment):
                    found.append(f"{event.variant}/{event.name}")
                elif isinstance(event, VariantsListed):
                    self.listed_now = event
        # The scanner's time has passed a tick of the kernel's clock: so has to do the kernel's.
        probe = self.root.parent / "tick"
        probe.touch()
        dated = probe.stat().st_mtime_ns
        while probe.stat().st_mtime_ns == dated:
            probe.touch()
        return found

    def listed(self, numbers: range, variant: str = "0") -> list[str]:
        return [f"{variant}/{self.writer.name(number)}" for number in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "hls")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_finished_playlists_give_way(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """However many lie finished in the folder, a live one is followed, and one that moves again."""
    (folder.root / "0").rmdir()
    finished = [HlsWriter(folder.root / f"{number:03}") for number in range(MAX_PLAYLISTS + 10)]
    for writer in finished:
        age(writer.playlist(range(1), ended=True), 100)
    live = HlsWriter(folder.root / "live")
    live.write(range(2))
    assert folder.names() == folder.listed(range(2), "live")
    for writer in (finished[0], finished[-1]):
        writer.write(range(3))
    live.write(range(3))
    assert sorted(folder.names()) == [
        *folder.listed(range(3), "000"),
        *folder.listed(range(3), finished[-1].folder.name),
        *folder.listed(range(2, 3), "live"),
    ]
    assert not said(caplog)


def test_one_playlist_too_many_is_said(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """When all that are followed are live, one more is not, which is said once."""
    for number in range(1, MAX_PLAYLISTS + 1):
        HlsWriter(folder.root / f"{number:03}").write(range(1))
    folder.writer.write(range(1))
    assert len(folder.names() + folder.names()) == MAX_PLAYLISTS
    (line,) = said(caplog)
    assert "064/stream.m3u8 is one playlist too many" in line


@pytest.mark.parametrize("name", ["index.m3u8", "video.m3u8", "zzz.m3u8"])
def test_two_playlists_of_one_stream(folder: Folder, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """What two playlists in one folder list is reported once, and it is said which one is not followed."""
    found = []
    for numbers in (range(2), range(3), range(4)):
        folder.writer.write(numbers)
        (folder.writer.folder / name).write_text(folder.writer.text(numbers))
        found += folder.names()
    folder.now += 5
    assert folder.names() == []
    (variant,) = folder.listed_now.present
    assert found == folder.listed(range(4), variant)
    (line,) = said(caplog)
    assert "it is not followed" in line
    assert "/stream.m3u8" in line
    assert name in line


def test_a_playlist_takes_the_place_of_another(folder: Folder) -> None:
    """Under another name in the same folder the stream goes on: nothing comes twice, and nothing is lost."""
    stale = folder.writer.folder / "index.m3u8"
    stale.write_text(folder.writer.text(range(9), ended=True))
    folder.writer.write(range(2))
    assert folder.names() == folder.listed(range(2))
    stale.unlink()
    (folder.writer.folder / "stream.m3u8").rename(stale)
    folder.writer.segment(2)
    stale.write_text(folder.writer.text(range(3)))
    assert folder.names() == folder.listed(range(2, 3))


def test_a_file_system_with_another_clock(folder: Folder) -> None:
    """A playlist dated long ago that goes on is live, and nothing of it is left out."""
    for count, names in ((3, []), (4, folder.listed(range(4))), (6, folder.listed(range(4, 6)))):
        folder.writer.write(range(count))
        playlist = folder.writer.folder / "stream.m3u8"
        then = playlist.stat().st_mtime - 20
        os.utime(playlist, (then, then))
        assert folder.names() == names


def test_sound_of_its_own_is_no_variant(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A playlist of EXT-X-MEDIA is followed, and reported as a rendition; variants name their group."""
    (folder.root / "stream.m3u8").write_text(
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,'
        'CHANNELS="2",URI="https://cdn.example/hls/english/stream.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="As filmed"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="text",NAME="English",URI="text/stream.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1000,AUDIO="sound"\n0/stream.m3u8\n'
    )
    sound = HlsWriter(folder.root / "english", "sound")
    for writer in (folder.writer, sound):
        writer.write(range(2))
    assert folder.names() == [
        *folder.listed(range(2)),
        *(f"english/{sound.name(number)}" for number in range(2)),
    ]
    listed = folder.listed_now.playlist
    assert [(variant.uri, variant.audio) for variant in listed.variants] == [("0", "sound")]
    assert listed.uris == {"0", "english"}
    assert listed.renditions == (
        Rendition("sound", "English", "english", "en", default=True, autoselect=True, channels="2"),
        Rendition("sound", "As filmed"),
    )
    assert not said(caplog)


def test_sound_of_its_own_is_rendered() -> None:
    """What is read of EXT-X-MEDIA is written again, before the variants."""
    playlist = MultivariantPlaylist(
        (Variant("0/playlist.m3u8", 1000, audio="sound"),),
        renditions=(
            Rendition(
                "sound", "English", "en/playlist.m3u8", "en", default=True, autoselect=True, channels="2"
            ),
            Rendition("sound", "As filmed"),
        ),
    )
    assert parse(playlist.render()) == playlist
    assert playlist.uris == {"0/playlist.m3u8", "en/playlist.m3u8"}


def stream_of(folder: Folder, name: str, *, encoder: str, started: float = 0.0) -> Callable[[int], None]:
    """A writer of a playlist of that name in the root, which began so many seconds later than others."""
    writer = HlsWriter(folder.root, encoder)
    writer.start += timedelta(seconds=started)

    def write(count: int) -> None:
        for number in range(count):
            if not (folder.root / writer.name(number)).exists():
                writer.segment(number)
        text = writer.text(range(max(0, count - 4), count))
        (folder.root / name).write_text(text)

    return write


def test_two_people_in_one_folder(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """Without a multivariant playlist a stream that starts beside another one is refused, and stays so."""
    folder.writer.folder.rmdir()
    alice, bob = (
        stream_of(folder, f"{name}.m3u8", encoder=name, started=at) for name, at in (("alice", 0), ("bob", 7))
    )
    found: list[str] = []
    for count in range(1, 12):
        alice(count)
        if count > 3:
            bob(count - 3)
        folder.now += 2
        found += folder.names()
    assert found == [f"alice/stream-alice-{number}.ts" for number in range(11)]
    assert folder.listed_now.present == {"alice"}
    (line,) = said(caplog)
    assert "bob.m3u8 is another stream than alice.m3u8" in line
    (folder.root / "alice.m3u8").unlink()
    for count in range(9, 15):
        bob(count)
        folder.now += 2
        assert folder.names() == []


def test_what_follows_a_stream_that_is_over(folder: Folder) -> None:
    """A playlist of another name that comes when the stream before it has ended is followed."""
    folder.writer.folder.rmdir()
    alice, bob = (stream_of(folder, f"{name}.m3u8", encoder=name) for name in ("alice", "bob"))
    alice(2)
    assert len(folder.names()) == 2
    path = folder.root / "alice.m3u8"
    path.write_text(path.read_text() + "#EXT-X-ENDLIST\n")
    folder.names()
    bob(2)
    assert folder.names() == [f"bob/stream-bob-{number}.ts" for number in range(2)]


def test_qualities_without_a_multivariant_playlist(folder: Folder) -> None:
    """Playlists whose segments have the same numbers, times and media are qualities of one stream."""
    folder.writer.folder.rmdir()
    writers = [stream_of(folder, f"{name}.m3u8", encoder=name) for name in ("low", "mid", "high")]
    for count in range(1, 5):
        for write in writers:
            write(count)
        folder.names()
    assert folder.listed_now.present == {"low", "mid", "high"}


@pytest.mark.parametrize(
    ("suffix", "named"), [("vtt", False), ("webvtt", False), ("vtt", True), ("m4s", True)]
)
def test_subtitles_are_no_quality(
    folder: Folder, caplog: pytest.LogCaptureFixture, suffix: str, *, named: bool
) -> None:
    """A playlist of subtitles is refused as what it is, whether a multivariant playlist names it or not."""
    folder.writer.folder.rmdir()
    if named:
        (folder.root / "master.m3u8").write_text(
            '#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="t",NAME="English",URI="tv_vtt.m3u8"\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=1000,SUBTITLES="t"\ntv.m3u8\n'
        )
    writer = stream_of(folder, "tv.m3u8", encoder="tv")
    found: list[str] = []
    for count in range(1, 9):
        writer(count)
        (folder.root / f"tv{count}.{suffix}").write_text("WEBVTT\n\n")
        text = (folder.root / "tv.m3u8").read_text().replace("stream-tv-", "tv").replace(".ts", f".{suffix}")
        (folder.root / "tv_vtt.m3u8").write_text(text)
        folder.now += 2
        found += folder.names()
    assert found == [f"tv/stream-tv-{number}.ts" for number in range(8)]
    assert folder.listed_now.present == {"tv"}
    (line,) = said(caplog)
    assert "tv_vtt.m3u8 holds subtitles" in line


def test_a_disk_that_stalls_once_delays_no_new_playlist(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that waits for two seconds is followed by another in seconds, though it is no work."""
    stalls = itertools.count()
    (folder.root / "1").mkdir()
    monkeypatch.setattr("broadcaster.source.scanner.time.perf_counter", lambda: 2.0 * next(stalls))
    folder.names()
    HlsWriter(folder.root / "1").write(range(3))
    folder.now += 5
    assert folder.names() == folder.listed(range(3), "1")


def test_a_folder_that_takes_long_to_list_is_listed_seldom(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments come at once though their folder is full; a new playlist there is found in seconds."""
    listings: list[str] = []
    spent = itertools.count()

    def opened(root: Path, path: Path, flags: int) -> int:
        listings.append(path.name)
        return open_beneath(root, path, flags)

    monkeypatch.setattr("broadcaster.source.scanner.open_beneath", opened)
    monkeypatch.setattr("broadcaster.source.scanner.time.perf_counter", lambda: 0.3 * next(spent))
    monkeypatch.setattr("broadcaster.source.scanner.time.thread_time", lambda: 0.3 * next(spent))
    found: list[str] = []
    for number in range(30):
        folder.writer.write(range(number + 1))
        folder.now += 0.6
        found += folder.names()
    assert found == folder.listed(range(30))
    assert listings.count("0") <= 3  # in 30 s, of 0.3 s each
    quick = HlsWriter(folder.root / "1")
    quick.write(range(29, 30))
    folder.now += 15
    assert folder.names() == folder.listed(range(29, 30), "1")
