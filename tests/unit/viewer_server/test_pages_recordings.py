"""The pages of recordings and clips, and their link previews."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.ipc.messages import (
    LENGTH,
    PublicFile,
    PublicRecording,
    RecordingsDelta,
    Setup,
    decode,
    encode,
    recordings_delta,
)
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.pages import NEWEST, PAGE, PageTexts
from tests.support.documents import ROOT
from tests.support.fakes.viewer_app import Client

START = datetime(2026, 11, 22, 9, 12, tzinfo=UTC)
BASE = "https://video.example.com/live/recordings"
EVIL = """"><script>alert('1')</script>&<!--"""
HEAD = '<!doctype html><title>Live</title><link href="style.css"><script src="assets/a.js"></script>'
BLOCK = '<script id="config" type="application/json">'


def recording(number: int = 0, **other: Any) -> PublicRecording:  # noqa: ANN401 - any field
    """A recording of an hour, ``number`` days after the first."""
    started = START + timedelta(days=number)
    name = f"{started:%Y-%m-%d}-0912-abcd"
    ended = started + timedelta(hours=1)
    made = PublicRecording(name, f"Evening {number}", started, ended, 3600, (f"{BASE}/{name}/playlist.m3u8",))
    return replace(made, **other)


class Site:
    """The viewer server and a client."""

    def __init__(self, client: Client, server: ViewerServer) -> None:
        self.client = client
        self.server = server

    async def text(self, path: str) -> str:
        response = await self.client.get(path)
        assert response.status == 200, path
        return await response.text()

    async def settings(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The settings inside the page."""
        inside = (await self.text(path)).partition(BLOCK)[2]
        return json.loads(inside.partition("<")[0])

    async def statuses(self, *paths: str) -> list[int]:
        return [(await self.client.get(path)).status for path in paths]


async def site(
    folder: Path, client: AiohttpClient, found: Sequence[PublicRecording] = (), *, on: bool = True
) -> Site:
    """A viewer server with these recordings."""
    for name in ("index.html", "recordings.html"):
        (folder / name).write_text(f"{HEAD}{BLOCK}</script><p>page")
    server = ViewerServer(Setup(folder, {"mode": "sharing"}, recordings=on))
    server.handle(recordings_delta({}, {entry.path: entry for entry in found}))
    return Site(await client(server.app), server)


def tags(html: str) -> dict[str, str]:
    return dict(re.findall(r'<meta property="(og:\w+)" content="([^"]*)">', html))


async def test_without_recordings(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """With recordings off, each route is 404, whatever was recorded before."""
    entry = recording()
    off = await site(tmp_path, aiohttp_client, [entry], on=False)
    paths = (
        "/recordings",
        "/recordings/newest.json",
        entry.path,
        f"/c/{entry.id}",
        f"/recordings/{entry.id}.json",
    )
    assert await off.statuses(*paths) == [404] * len(paths)


async def test_a_file_to_download(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The page of a recording has the URL of its file, if there is a file."""
    file = PublicFile("https://video.example.com/live/files/a.mp4", 5, "video/mp4")
    found = [recording(0, file=file), recording(1)]
    message = recordings_delta({}, {entry.path: entry for entry in found})
    assert decode(encode(message)[LENGTH.size :]) == message
    there = await site(tmp_path, aiohttp_client, found)
    files = [(await there.settings(entry.path))["recording"]["file"] for entry in found]
    assert files == [{"url": file.url, "size": 5, "type": "video/mp4"}, None]


async def test_link_previews(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Title, length and picture, with absolute URLs if the page's address is known."""
    entry = recording(poster="https://video.example.com/poster.jpg")
    on = await site(tmp_path, aiohttp_client, [entry])
    html = await on.text(entry.path)
    assert "<title>Evening 0</title>" in html
    assert tags(html) == {
        "og:type": "website",
        "og:title": "Evening 0",
        "og:description": "1 h 0 min, 22 November 2026",
        "og:image": "https://video.example.com/poster.jpg",
    }
    (tmp_path / "config.json").write_text('{"pageUrl": "https://live.example.com/"}')
    html = await on.text(entry.path)
    assert tags(html)["og:url"] == f"https://live.example.com{entry.path}"
    assert tags(html)["og:video"] == f"https://live.example.com{entry.path}?embed=1"
    html = await on.text("/recordings")
    assert tags(html)["og:url"] == "https://live.example.com/recordings"
    assert "og:video" not in tags(html)
    assert "<title>Recordings: Live stream</title>" in html


async def test_other_sites_learn_how_to_embed(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The page of a recording names its oEmbed answer, which has the player in the size that is allowed."""
    entry = recording()
    on = await site(tmp_path, aiohttp_client, [entry])
    assert "oembed" not in await on.text(entry.path)
    (tmp_path / "config.json").write_text('{"pageUrl": "https://live.example.com/"}')
    (link,) = re.findall(r'json\+oembed" href="([^"]+)"', await on.text(entry.path))
    assert link.startswith("https://live.example.com/oembed?url=https%3A%2F%2Flive.example.com%2F")
    answer = json.loads(await on.text(f"{link.removeprefix('https://live.example.com')}&maxwidth=320"))
    assert (answer["type"], answer["version"], answer["title"]) == ("video", "1.0", "Evening 0")
    assert (answer["width"], answer["height"]) == (320, 180)
    assert f'src="https://live.example.com{entry.path}?embed=1" width="320"' in answer["html"]
    for wrong in ("", "?url=https://other.example/watch/x", f"?url=https://other.example{entry.path}"):
        assert (await on.client.get(f"/oembed{wrong}")).status == 404
    for is_private in (False, True):  # an edge has it with the recording, unless strangers cannot have it
        _, (page,) = await PageTexts({}, tmp_path, is_private=is_private).texts({}, {entry.path: entry})
        found = re.findall(r'json\+oembed" href="([^"]+)"', str(page["tags"]))
        assert found == ([] if is_private else [f"https://live.example.com/oembed{entry.path}"])
        assert ("oembed" in page) is not is_private
        whole = json.loads(await on.text(link.removeprefix("https://live.example.com")))
        assert is_private or page["oembed"] == whole


async def test_nothing_of_a_title_is_html(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """No title of a stream ends a tag or the element with the settings."""
    entry = recording(title=EVIL)
    on = await site(tmp_path, aiohttp_client, [entry])
    for path in (entry.path, "/recordings"):
        html = await on.text(path)
        assert html.count("<script") == 2, "the page's own"
        assert "<!--" not in html
    assert tags(await on.text(entry.path))["og:title"].startswith("&quot;&gt;&lt;script&gt;")
    assert (await on.settings(entry.path))["recording"]["title"] == EVIL


async def test_files_are_found_from_another_folder(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The page under /watch/… names its files from the root."""
    on = await site(tmp_path, aiohttp_client, [recording()])
    html = await on.text(recording().path)
    assert 'href="/style.css"' in html
    assert 'src="/assets/a.js"' in html


async def test_which_recordings_are_found(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Unlisted recordings and clips are found by their own addresses only, removed recordings not at all."""
    listed, unlisted = recording(0), recording(1, listed=False, title="")
    clip = recording(2, listed=False, clip=True, title="")
    on = await site(tmp_path, aiohttp_client, [listed, unlisted, clip])
    assert await on.statuses(listed.path, unlisted.path, clip.path) == [200, 200, 200]
    assert await on.statuses(f"/watch/{clip.id}", f"/c/{listed.id}", "/watch/none", "/watch/") == [404] * 4
    found = (await on.settings("/recordings"))["page"]["recordings"]
    assert [entry["id"] for entry in found] == [listed.id]
    assert "<title>Recording of 23 November 2026</title>" in await on.text(unlisted.path)
    assert "<title>Clip of 24 November 2026</title>" in await on.text(clip.path)
    (tmp_path / "config.json").write_text('{"language": "de"}')
    assert "<title>Clip vom 24. November 2026</title>" in await on.text(clip.path)
    assert "<title>Aufzeichnungen: Livestream</title>" in await on.text("/recordings")
    (tmp_path / "config.json").write_text("{}")
    settings = (await on.settings(clip.path))["recording"]
    assert settings["parts"] == [f"{BASE}/{clip.id}/playlist.m3u8"]
    on.server.handle(RecordingsDelta((replace(listed, listed=False),), (unlisted.path,)))
    assert await on.statuses(listed.path, unlisted.path) == [200, 404]
    assert (await on.settings("/recordings"))["page"]["recordings"] == []
    assert json.loads(await on.text("/recordings/newest.json"))["recordings"] == []


async def test_a_changed_title_is_shown(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """A page is rendered again after a change, and only then."""
    entry = recording()
    on = await site(tmp_path, aiohttp_client, [entry])
    first = await on.client.get(entry.path)
    again = await on.client.get(entry.path, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    on.server.handle(RecordingsDelta((replace(entry, title="Opening night"),)))
    assert "<title>Opening night</title>" in await on.text(entry.path)


async def test_an_unknown_recording(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The address of an unknown recording is 404 with the page, whose settings have no recording."""
    on = await site(tmp_path, aiohttp_client)
    for path in ("/watch/nope", "/c/nope"):
        response = await on.client.get(path)
        assert (response.status, response.content_type) == (404, "text/html")
        inside = (await response.text()).partition(BLOCK)[2]
        assert json.loads(inside.partition("<")[0])["recording"] == {}


async def test_a_long_list_has_pages(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Each of a thousand recordings is in the list once, newest first, some dozens at a time."""
    found = [recording(number) for number in range(1000)]
    on = await site(tmp_path, aiohttp_client, found)
    page = (await on.settings("/recordings"))["page"]
    ids = [entry["id"] for entry in page["recordings"]]
    assert len(ids) == PAGE
    while page["older"]:
        page = json.loads(await on.text(page["older"]))
        ids += [entry["id"] for entry in page["recordings"]]
    assert ids == [entry.id for entry in reversed(found)]
    newest = json.loads(await on.text("/recordings/newest.json"))
    assert [entry["id"] for entry in newest["recordings"]] == ids[:NEWEST]
    script = (ROOT / "viewer/public/js/ui/other-recordings.js").read_text()
    (shown,) = re.findall(r"MOST = (\d+);", script)
    assert int(shown) + 2 <= NEWEST, "besides the one that is on, and the one that is watched"
    assert await on.statuses("/recordings/none.json") == [404]


@pytest.mark.parametrize("count", [0, 3])
def test_a_delta_has_changes_only(count: int) -> None:
    """The viewer server has the same list as ingest, by bytes with changes only."""
    before = {entry.path: entry for entry in map(recording, range(count))}
    now = {entry.path: entry for entry in [recording(1, title="Other"), *map(recording, range(2, count + 1))]}
    message = decode(encode(recordings_delta(before, now))[LENGTH.size :])
    assert isinstance(message, RecordingsDelta)
    assert message.apply_to(before) == now
    assert len(message.changed) == (2 if count else 1)
    assert recordings_delta(now, now) == RecordingsDelta()
