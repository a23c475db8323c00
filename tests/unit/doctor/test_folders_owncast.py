"""What the doctor sees of an Owncast that runs as another user, and between its streams."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcaster.doctor import folders
from broadcaster.doctor.folders import survey
from tests.support.fakes.hls_writer import HlsWriter, age
from tests.support.faults.other_user import OWNCASTS_GROUP, another_user, give, open_folder

BOTH = ("0", "1")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong stays so between two looks."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def data() -> Iterator[Path]:
    """Owncast's data folder, which another user may enter, and the HLS folder in it."""
    with open_folder() as place:
        data = place / "data"
        (data / "hls").mkdir(parents=True)
        give(data / "hls", 0o750)
        give(data, 0o710)
        yield data
        give(data, 0o710)


@pytest.fixture
def hls(data: Path) -> Path:
    return data / "hls"


def stream(hls: Path, *names: str) -> list[HlsWriter]:
    """A stream as it lies there: files for all, folders for the group."""
    variants = [f"#EXT-X-STREAM-INF:BANDWIDTH=1000\n{name}/stream.m3u8\n" for name in names]
    (hls / "stream.m3u8").write_text("#EXTM3U\n" + "".join(variants))
    writers = [HlsWriter(hls / name) for name in names]
    for writer in writers:
        writer.write(range(5))
        give(writer.folder, 0o750)
    return writers


def close(writer: HlsWriter) -> None:
    """End it as Owncast does: the clip and the playlist are files that were made for its user alone."""
    clip = writer.folder / "offline.ts"
    clip.write_bytes(b"x")
    for path in (clip, writer.playlist(range(5), extra="#EXTINF:8.0,\noffline.ts\n", ended=True)):
        give(path, 0o600)


@pytest.mark.parametrize("closed", [1, 2])
def test_owncasts_closing_playlist(hls: Path, closed: int) -> None:
    """After an end it can be read by Owncast's user alone: nothing is wrong, and nothing is lost."""
    for writer in stream(hls, *BOTH)[:closed]:
        close(writer)
    with another_user(OWNCASTS_GROUP):
        finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "ok"
    assert "Owncast's closing playlist can be read by its user alone" in finding.message
    assert "nothing is lost" in finding.message
    assert folders.writing(survey(hls), time.time()).outcome != "failed"


def test_the_closing_playlist_of_an_only_variant(hls: Path) -> None:
    """With no playlist left to read at all it is still distinguished from a folder that is not Owncast's."""
    [writer] = stream(hls, "0")
    close(writer)
    with another_user(OWNCASTS_GROUP):
        finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "ok"
    assert "can be read by its user alone" in finding.message


def test_files_that_are_owncasts_alone(hls: Path) -> None:
    """Where the segments cannot be read either, no stream gets through."""
    [writer, _] = stream(hls, *BOTH)
    for path in writer.folder.iterdir():
        give(path, 0o600)
    with another_user(OWNCASTS_GROUP):
        finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "failed"
    assert "0/stream.m3u8 may not be read by this user" in finding.message
    assert "as Owncast's user" in finding.remedy


def test_a_playlist_that_is_torn_is_there(hls: Path) -> None:
    """What cannot be understood is named, and not said to be absent."""
    stream(hls, *BOTH)
    (hls / "0" / "stream.m3u8").write_text("<html>")
    finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "warning"
    assert "0/stream.m3u8 does not start with #EXTM3U" in finding.message


@pytest.mark.parametrize("variants", [(), BOTH])
def test_owncast_starts_its_transcoder(hls: Path, variants: tuple[str, ...]) -> None:
    """It makes the folder anew, which then is empty for as long as a segment takes, and not for ever."""
    for name in variants:
        (hls / name).mkdir()
    finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "skipped"
    assert "Owncast starts its transcoder" in finding.message
    for path in (*hls.iterdir(), hls):
        age(path, 600)
    assert folders.playlists(hls, survey(hls)).outcome in ("warning", "failed")


def test_the_folder_is_away_for_a_moment(data: Path, hls: Path) -> None:
    """Owncast removes it before it makes it anew: no fault, where the folder around it is Owncast's."""
    hls.rmdir()
    (data / "owncast.db").touch()
    finding = folders.hls_folder(hls)
    assert finding.outcome == "skipped"
    assert "Owncast is between two streams" in finding.message
    assert folders.playlists(hls, survey(hls)).outcome == "skipped"


def test_the_folder_comes_back(hls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mostly it is there at the next look."""
    hls.rmdir()
    monkeypatch.setattr(time, "sleep", lambda _: hls.mkdir())
    assert folders.hls_folder(hls).outcome == "ok"


def test_a_data_folder_that_nobody_may_enter(data: Path, hls: Path) -> None:
    """Owncast makes it for its user alone: the group of the HLS folder does not help then."""
    give(data, 0o700)
    with another_user(OWNCASTS_GROUP):
        finding = folders.hls_folder(hls)
    assert finding.outcome == "failed"
    assert f"{data} may not be entered by this user (id {os.geteuid() or 65534})" in finding.message
    assert finding.remedy.startswith(f"chmod g+x {data}")
