"""The plan of an export, and the times of its runs in the file."""

import argparse
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import cast

import pytest

from broadcaster.errors import ExportError
from broadcaster.export.job import RemuxProcess, attempt, read_plan
from broadcaster.export.plan import (
    PLAN_FILE,
    ExportPlan,
    ExportRendition,
    ExportRun,
    Item,
    Request,
    add_options,
    request_of,
)
from broadcaster.export.remux import FileTimeline, First

HOST = "https://video.example.com"
AT = f"{HOST}/live/r/playlist.m3u8"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"


async def planned(texts: dict[str, str], **changes: object) -> ExportPlan:
    asked = {"address": AT, "kind": "mp4", **changes}

    async def get(url: str) -> str:
        return texts[url]

    return await read_plan(Request(**asked), get)  # type: ignore[arg-type]


def names(rendition: ExportRendition) -> list[list[list[str]]]:
    return [
        [[item.url.rpartition("/")[2] for item in piece] for piece in run.pieces] for run in rendition.runs
    ]


def segments(*lines: str) -> str:
    return HEAD + "".join(f"{line}\n" if line[0] == "#" else f"#EXTINF:4,\n{line}\n" for line in lines)


async def test_runs_and_gaps() -> None:
    """A discontinuity begins a run; a gap before a run is added to its time, a gap within it is not."""
    text = segments(
        "a.ts", "#EXT-X-GAP", "b.ts", "c.ts", "#EXT-X-GAP", "d.ts", "#EXT-X-DISCONTINUITY", "e.ts"
    )
    found = await planned({AT: text})
    (only,) = found.renditions
    assert names(only) == [[["a.ts", "c.ts"]], [["e.ts"]]]
    assert [run.gap for run in only.runs] == [0, 4]
    assert (found.seconds, found.count, found.more) == (16, 3, 0)


async def test_maps_and_ranges() -> None:
    """Each piece begins with its map; a range without an offset follows the preceding range (§4.4.4.2)."""
    text = segments(
        '#EXT-X-MAP:URI="all.mp4",BYTERANGE="100@0"',
        *("#EXT-X-BYTERANGE:50@100", "all.mp4", "#EXT-X-BYTERANGE:60", "all.mp4"),
        *('#EXT-X-MAP:URI="other.mp4"', "one.m4s"),
    )
    (only,) = (await planned({AT: text})).renditions
    first, second = only.runs[0].pieces
    url = f"{HOST}/live/r/all.mp4"
    assert first == (Item(url, 0, 0, 100), Item(url, 4, 100, 50), Item(url, 4, 150, 60))
    assert [item.url.rpartition("/")[2] for item in second] == ["other.mp4", "one.m4s"]


async def test_playlists_of_lax_encoders() -> None:
    """A playlist is read as the service reads a source: a malformed tag costs that tag alone."""
    text = "\ufeff" + HEAD.replace("\n", "\r\n") + "#EXT-X-PROGRAM-DATE-TIME:soon\n#EXTINF:4,500000,\na.ts"
    (only,) = (await planned({AT: text})).renditions
    assert only.items == [Item(f"{HOST}/live/r/a.ts", 4.5)]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (None, None, "abcd"),
        (4, None, "bcd"),
        (3.9, 8.1, "abc"),
        (None, 4, "a"),
        ("2026-11-22T20:00:04+00:00", "2026-11-22T21:00:08+01:00", "b"),
    ],
)
async def test_a_time_range(begin: float | str | None, end: float | str | None, expected: str) -> None:
    """A time range in seconds or wall times contains each overlapping segment as a whole."""
    text = segments("#EXT-X-PROGRAM-DATE-TIME:2026-11-22T20:00:00Z", "a", "b", "c", "d")
    (only,) = (await planned({AT: text}, begin=begin, end=end)).renditions
    assert names(only) == [[list(expected)]]


VARIANTS = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="other",URI="other.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main",DEFAULT=YES,URI="main.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2000,RESOLUTION=1280x720,AUDIO="a"
720.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900,RESOLUTION=640x360
360.m3u8
"""


@pytest.mark.parametrize(
    ("variant", "kind", "expected"),
    [
        ("best", "mp4", ["720.ts", "main.ts"]),
        ("720p", "ts", ["720.ts", "main.ts"]),
        ("best", "m4a", ["main.ts"]),
        ("worst", "mp4", ["360.ts"]),
        ("1", "m4a", ["360.ts"]),
    ],
)
async def test_variants(variant: str, kind: str, expected: list[str]) -> None:
    """A variant is chosen by position or height, with its audio playlist; an .m4a needs only the latter."""
    texts = {f"{HOST}/live/r/{name}.m3u8": segments(f"{name}.ts") for name in ("720", "360", "main")}
    found = await planned({AT: VARIANTS, **texts}, variant=variant, kind=kind)
    assert [name for rendition in found.renditions for name in names(rendition)[0][0]] == expected
    with pytest.raises(ExportError, match="there are best, worst, 0/720p, 1/360p"):
        await planned({AT: VARIANTS}, variant="480p")


async def test_a_page() -> None:
    """A page names the playlists of the recording, one for each part."""
    parts = [f"{HOST}/live/r/playlist.m3u8", f"{HOST}/live/r/part-2/playlist.m3u8"]
    settings = json.dumps({"recording": {"parts": parts}}).replace("<", "\\u003c")
    page = f'<html><script id="config" type="application/json">{settings}</script>'
    texts = {"https://a.example.com/watch/x": page, parts[0]: segments("a"), parts[1]: segments("b")}
    first = await planned(texts, address="https://a.example.com/watch/x")
    second = await planned(texts, address="https://a.example.com/watch/x", part=2)
    assert [names(plan.renditions[0]) for plan in (first, second)] == [[[["a"]]], [[["b"]]]]
    assert (first.more, second.more) == (1, 0)
    with pytest.raises(ExportError, match="neither a playlist nor the page"):
        await planned(texts, address="https://a.example.com/watch/x", part=3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<html>", "neither a playlist"),
        (segments('#EXT-X-KEY:METHOD=AES-128,URI="k"', "a"), "encrypted"),
        (HEAD, "no segment"),
        (HEAD + "#EXTINF:9999,\na\n", "no valid EXTINF"),
        (segments("#EXT-X-BYTERANGE:x", "a"), "cannot be parsed|no EXT-X-BYTERANGE"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:\n", "no variant|cannot be parsed|no segment"),
    ],
)
async def test_refused_playlists(text: str, complaint: str) -> None:
    """A playlist that cannot be exported is one line of error, without the URL's signature."""
    address = f"{AT}?X-Amz-Signature=secret"
    with pytest.raises(ExportError, match=complaint) as raised:
        await planned({address: text}, address=address)
    assert "secret" not in str(raised.value)


TICK, TOCK = Fraction(1, 90_000), Fraction(1, 48_000)


def test_runs_follow_each_other() -> None:
    """A run begins at the end of the longest track, and all its tracks are shifted by the same time."""
    line = FileTimeline()
    line.begin({0: First(TICK, 93_000, 90_000), 1: First(TOCK, 50_000, 50_000)}, 0)
    assert line.moved(0, 93_000, 90_000, 90_000) == (0, -3000)
    assert line.moved(1, 50_000, 50_000, 48_000) == (400, 400)  # it began 8 1/3 ms after the picture
    line.begin({0: First(TICK, 1_003_000, 1_000_000), 1: First(TOCK, 534_400, 534_400)}, 2.0)
    assert line.moved(1, 534_400, 534_400, 1024) == (48_400 + 96_000, 48_400 + 96_000)
    shift = line.moved(0, 1_003_000, 1_000_000, 3000)[0]
    assert shift * TICK == Fraction(144_400, 48_000) + 1_003_000 * TICK - 534_400 * TOCK


def test_decoding_times_rise() -> None:
    """Decoding times increase, whatever the encoder wrote."""
    line = FileTimeline()
    line.begin({0: First(TICK, 0, 0)}, 0)
    found = [line.moved(0, dts, dts, 3000)[1] for dts in (0, 3000, 3000, 1000, 6000)]
    assert found == sorted(set(found))


def test_the_command_line() -> None:
    """Times are accepted as people write them; other values are refused."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    given = ["x", "out.m4a", "--from", "1:02:03.5", "--to", "2026-11-22T20:15:03Z", "--variant", "worst"]
    asked = request_of(parser.parse_args(given), AT)
    assert asked == Request(AT, "m4a", "worst", 1, 3723.5, "2026-11-22T20:15:03Z")
    for wrong in (
        ["x", "out.avi"],
        ["x", "out.ts", "--to", "soon"],
        ["x", "out.ts", "--to", "2026-11-22T20:15"],
    ):
        with pytest.raises(argparse.ArgumentError):
            parser.parse_args(wrong)


@pytest.mark.parametrize("line", ["#EXTINF:9999,\n", "#EXTINF:", "#EXT-X-MAP:URI="])
async def test_errors_show_no_signature(line: str) -> None:
    """An error about a segment does not show the signature of its URL."""
    with pytest.raises(ExportError) as raised:
        await planned({AT: f"{HEAD}{line}{HOST}/a.ts?X-Amz-Signature=secret\n#EXTINF:9999,\nb.ts\n"})
    assert "secret" not in str(raised.value)


class Writer:
    """Writes an incomplete file, and fails."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    async def begin(self, path: Path, plan: ExportPlan, *, in_fragments: bool) -> None:
        assert (plan.count, in_fragments) == (1, False)
        path.write_text("half")  # noqa: ASYNC240 - nothing else runs
        self.paths.append(path)

    async def ended(self) -> None:
        raise ExportError("killed")


def test_a_file_is_that_of_one_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt writes in a new folder, and without the playlist it uses the stored plan."""
    monkeypatch.setattr("broadcaster.export.job.PATIENCE", (0.1, 0.1))
    asked, writer = Request("http://127.0.0.1:9/playlist.m3u8", "mp4"), Writer()
    made = ExportPlan(asked, (ExportRendition((ExportRun(((Item("http://127.0.0.1:9/a.ts"),),)),)),))
    (tmp_path / PLAN_FILE).write_text(json.dumps(asdict(made)))
    for _ in range(2):
        with pytest.raises(ExportError, match="killed"):
            attempt(asked, tmp_path, tmp_path / "out.mp4", cast(RemuxProcess, writer))
    first, second = writer.paths
    assert not first.parent.exists()
    assert second.exists()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_a_playlist_without_end(end: str) -> None:
    """A playlist with more lines than a day of short segments is refused before it is parsed."""
    with pytest.raises(ExportError, match="more than 600000 lines"):
        await planned({AT: HEAD + f"#{end}" * 1_300_000})
