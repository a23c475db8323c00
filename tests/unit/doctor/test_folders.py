"""What the doctor sees in the two folders of this machine."""

import shutil
import time
from pathlib import Path

import pytest

from broadcaster.access.keeper import PASSPHRASE, Keeper
from broadcaster.doctor import folders
from broadcaster.doctor.folders import survey
from tests.support.fakes.hls_writer import PACKET, HlsWriter, age

MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{0}\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{1}\n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong stays so between two looks."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def hls(tmp_path: Path) -> Path:
    folder = tmp_path / "hls"
    folder.mkdir()
    return folder


def two_variants(hls: Path) -> list[HlsWriter]:
    writers = [HlsWriter(hls / name) for name in ("0", "1")]
    for writer in writers:
        writer.write(range(5))
    (hls / "stream.m3u8").write_text(MASTER.format("0/stream.m3u8", "1/stream.m3u8"))
    return writers


def test_a_live_stream(hls: Path) -> None:
    """Variants, the bytes they make per second, and when they were written last."""
    two_variants(hls)
    found = survey(hls)
    assert [variant.name for variant in found.variants] == ["0", "1"]
    assert found.rate == 2 * 3 * len(PACKET) / 2.0
    assert found.sample
    finding = folders.playlists(hls, found)
    assert finding.outcome == "ok"
    assert "2 variant(s), segments of up to 2 s" in finding.message
    assert folders.writing(found, time.time()).outcome == "ok"
    stale = folders.writing(found, time.time() + 600)
    assert stale.outcome == "warning"
    assert "10 min ago" in stale.message


def test_absolute_uris_and_leftovers(hls: Path) -> None:
    """With a serving endpoint Owncast's URIs are absolute; what is not named is left over."""
    two_variants(hls)
    HlsWriter(hls / "2", "earlier").write(range(5))
    (hls / "stream.m3u8").write_text(
        MASTER.format("https://x/hls/0/stream.m3u8", "https://x/hls/1/stream.m3u8")
    )
    assert [variant.name for variant in survey(hls).variants] == ["0", "1"]


@pytest.mark.parametrize("before", ["", "/hls/", "https://x/hls/"])
def test_a_flat_layout(hls: Path, before: str) -> None:
    """Playlists that all lie in the root are the variants that the service would follow."""
    writer = HlsWriter(hls)
    for number in range(2):
        writer.segment(number)
    for name in ("video_720", "video_360", "left-over"):
        (hls / f"{name}.m3u8").write_text(writer.text(range(2)).replace("abc", name))
        shutil.copy(hls / writer.name(0), hls / f"stream-{name}-0.ts")
    (hls / "all.m3u8").write_text(MASTER.format(f"{before}video_720.m3u8", f"{before}video_360.m3u8"))
    found = survey(hls)
    assert [variant.name for variant in found.variants] == ["video_360", "video_720"]
    assert found.absent == ()
    assert folders.playlists(hls, found).outcome == "ok"


def test_owncast_idle_and_after_the_end(hls: Path) -> None:
    """The offline clip is no stream, and neither is one with an end; their bytes are not the stream's."""
    writer = HlsWriter(hls / "0", "offline")
    writer.segment(0)
    writer.playlist(range(1), ended=True)
    found = survey(hls)
    assert found.rate == 0
    assert folders.playlists(hls, found).outcome == "ok"
    assert folders.writing(found, time.time()).outcome == "skipped"
    writer = HlsWriter(hls / "0", "abc")
    writer.write(range(3))
    writer.playlist(range(3), ended=True)
    assert folders.writing(survey(hls), time.time()).outcome == "skipped"
    assert survey(hls).rate > 0


def test_segments_that_are_not_there(hls: Path) -> None:
    """Listed segments without files mean that somebody removes them; the newest may just be late."""
    writer = HlsWriter(hls / "0")
    writer.write(range(5))
    (hls / "0" / writer.name(4)).unlink()
    assert folders.playlists(hls, survey(hls)).outcome == "ok"
    (hls / "0" / writer.name(1)).unlink()
    finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "warning"
    assert "1 of 5 listed segments" in finding.message


def test_a_folder_too_high_up(tmp_path: Path, hls: Path) -> None:
    """Owncast's data folder, in the place of the folder with the playlists, has a finding of its own."""
    two_variants(hls)
    finding = folders.playlists(tmp_path, survey(tmp_path))
    assert finding.outcome == "failed"
    assert "names variants that do not exist: 0, 1" in finding.message


def test_foreign_and_empty_folders(hls: Path, tmp_path: Path) -> None:
    """A folder without playlists is not Owncast's; an empty one may become so."""
    age(hls, 600)
    assert folders.playlists(hls, survey(hls)).outcome == "warning"
    (hls / "holiday.jpg").write_bytes(b"x")
    finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "failed"
    assert "not an HLS folder" in finding.message
    finding = folders.playlists(tmp_path, survey(tmp_path))
    assert finding.remedy.endswith(f"perhaps it is {hls}")


def test_playlists_that_cannot_be_used(hls: Path) -> None:
    """A playlist that stays unreadable is named, with the reason."""
    (hls / "stream.m3u8").write_text("<html>")
    finding = folders.playlists(hls, survey(hls))
    assert finding.outcome == "failed"
    assert "stream.m3u8 does not start with #EXTM3U" in finding.message
    HlsWriter(hls / "0").write(range(2))
    assert folders.playlists(hls, survey(hls)).outcome == "warning"


def test_two_streams_in_one_folder(hls: Path) -> None:
    """Another stream beside the one that is on is named, and does not count as a quality of it."""
    for name, count in (("alice", 6), ("bob", 3)):
        HlsWriter(hls / name, name).write(range(count - 3, count))
    found = survey(hls)
    assert [variant.name for variant in found.variants] == ["alice"]
    finding = folders.playlists(hls, found)
    assert finding.outcome == "warning"
    assert "bob/stream.m3u8 is another stream than alice/stream.m3u8" in finding.message


def test_hls_folder(hls: Path, tmp_path: Path) -> None:
    """There or not, and a folder; what is wrong names the setting."""
    assert folders.hls_folder(hls).outcome == "ok"
    file = tmp_path / "file"
    file.touch()
    for wrong in (tmp_path / "none", file):
        finding = folders.hls_folder(wrong)
        assert finding.outcome == "failed"
        assert "BROADCASTER_HLS_DIR" in finding.remedy


async def test_the_passphrase(tmp_path: Path) -> None:
    """It is not set, known, not known since the key changed, or in a file that the check may not read."""
    assert folders.passphrase(tmp_path / "none", [b"a"]).outcome == "warning"
    await Keeper(tmp_path, peppers=[b"a"]).set_passphrase("correct horse battery")
    assert folders.passphrase(tmp_path, [b"a"]).outcome == "ok"
    finding = folders.passphrase(tmp_path, [b"b"])
    assert (finding.outcome, "the bucket's key changed" in finding.message) == ("warning", True)
    (tmp_path / PASSPHRASE).chmod(0o644)
    assert folders.passphrase(tmp_path, [b"a"]).outcome == "skipped"


def test_state_folder_is_left_as_it_was(tmp_path: Path) -> None:
    """It is tried with a file that goes away again, and not made when it is missing."""
    folder = tmp_path / "a" / "state"
    assert "can be made" in folders.state_folder(folder).message
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True, mode=0o755)
    assert f"{folder} is open to other users (mode 755)" in folders.state_folder(folder).message
    folder.chmod(0o700)
    assert folders.state_folder(folder).outcome == "ok"
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    finding = folders.state_folder(tmp_path / "file" / "state")
    assert finding.outcome == "failed"
    assert "BROADCASTER_STATE_DIR" in finding.remedy


def test_links(tmp_path: Path, hls: Path) -> None:
    """A link is tried with a real segment, and is gone afterwards."""
    HlsWriter(hls / "0").write(range(1))
    sample = survey(hls).sample
    assert sample
    state = tmp_path / "state"
    state.mkdir()
    assert folders.links(state, hls, sample).outcome == "ok"
    assert sample.stat().st_nlink == 1
    assert list(state.iterdir()) == []
    assert folders.links(state, hls, None).outcome == "ok"
    sample.unlink()
    assert folders.links(state, hls, sample).outcome == "skipped"
    other = Path("/dev/shm")  # another file system, on most machines
    if other.is_dir() and other.stat().st_dev != tmp_path.stat().st_dev:
        assert folders.links(other, hls, None).outcome == "warning"


def test_room(tmp_path: Path) -> None:
    """Less than what may wait is a warning; the finding says how long it lasts when the bit rate is known."""
    assert folders.disk_space(tmp_path, 0, 0).outcome == "ok"
    finding = folders.disk_space(tmp_path, 2**60, 1e6)
    assert finding.outcome == "warning"
    assert "left, for an outage of " in finding.message
    assert "lower the limit" in finding.remedy


def test_env_file(tmp_path: Path) -> None:
    """A file with keys that others can read is a finding."""
    path = tmp_path / ".env"
    path.touch(mode=0o600)
    assert folders.env_file(path).outcome == "ok"
    path.chmod(0o644)
    finding = folders.env_file(path)
    assert finding.outcome == "warning"
    assert finding.remedy == f"chmod 600 {path}"


def test_a_torn_playlist_is_read_again(hls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A playlist met while it is rewritten in place is no fault."""
    writer = HlsWriter(hls / "0")
    writer.write(range(2))
    whole = writer.text(range(2))
    path = hls / "0" / "stream.m3u8"
    path.write_text("")
    monkeypatch.setattr(time, "sleep", lambda _: path.write_text(whole))
    assert survey(hls).faults == ()
