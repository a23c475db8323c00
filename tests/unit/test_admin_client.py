"""What an operator can do with recordings: by HTTP with the token, and on the command line."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.admin import Lead, make_operator_app, own_token
from broadcaster.admin_client import address_of
from broadcaster.cli import main
from broadcaster.config import load
from broadcaster.errors import AdminError, NotPossible
from broadcaster.ipc.messages import HealthReport
from broadcaster.recordings.admin_api import RecordingsAdmin
from broadcaster.recordings.file_uploads import Uploads, etag_of
from broadcaster.service.serve import newest, page_address
from tests.api_schemas import check_answer
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.multipart_uploads import FakeParts

Ask = Callable[..., Awaitable[tuple[int, Any]]]


class AdminRig:
    """An operator's listener in front of a studio."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream = CatalogFixture(folder / "studio")
        self.notifications = 0
        self.swept: list[bool] = []
        self.page: str | None = "https://live.example.com/"
        stream = self.stream
        self.store = FakeParts()
        self.admin = RecordingsAdmin(
            own_token(folder),
            stream.catalog,
            self.notify,
            self.sweep,
            self.rebuild,
            lambda: newest(stream.channel.view),
            self.find_page,
            Uploads(self.store, stream.catalog, "live", self.notify),
            "https://video.example.com/live/recordings/",
        )
        self.report = HealthReport("offline", 0, None)
        self.stands_by = True
        self.app = make_operator_app(
            lambda: self.report,
            CollectorRegistry(),
            recordings=self.admin,
            lead=Lead(self.admin.token, self.want_lead),
        )

    def notify(self) -> None:
        self.notifications += 1

    def want_lead(self) -> None:
        if not self.stands_by:
            raise NotPossible("this broadcaster serves viewers")
        self.notifications += 1

    async def sweep(self, dry_run: bool) -> dict[str, Any]:  # noqa: FBT001
        self.swept.append(dry_run)
        return {"objects": 0}

    async def find_page(self) -> str | None:
        return self.page

    async def rebuild(self) -> dict[str, Any]:
        return {"recordings": 3}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[AdminRig]:
    made = AdminRig(tmp_path)
    made.stream.publish("0", count=9)
    made.stream.channel.end()
    yield made
    made.stream.catalog.close()


async def test_the_lead_is_asked_for(rig: AdminRig, ask: Ask) -> None:
    """With the token alone, and of a broadcaster that stands by."""
    assert (await ask("POST", "lead", headers={}))[0] == 401
    assert rig.notifications == 0
    assert await ask("POST", "lead") == (202, {})
    assert rig.notifications == 1
    rig.stands_by = False
    assert await ask("POST", "lead") == (409, {"error": "this broadcaster serves viewers"})


@pytest.fixture
async def ask(rig: AdminRig, aiohttp_client: AiohttpClient) -> Ask:
    client = await aiohttp_client(rig.app)
    headers = {"Authorization": f"Bearer {own_token(rig.folder)}"}

    async def answer(method: str, path: str, **options: Any) -> tuple[int, Any]:  # noqa: ANN401
        async with client.request(method, f"/api/{path}", **{"headers": headers, **options}) as response:
            body = await response.json() if response.content_type.endswith("json") else None
        if path != "x":
            check_answer(method, f"/api/{path}", response.status, body)
        return response.status, body

    return answer


async def only(ask: Ask) -> Any:  # noqa: ANN401
    _, found = await ask("GET", "recordings")
    (recording,) = found["recordings"]
    return recording


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic abc", "Bearer ü"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "recordings"), ("POST", "clips"), ("DELETE", "recordings/x"), ("GET", "x")]
)
async def test_only_with_the_token(ask: Ask, method: str, path: str, header: str) -> None:
    """Without the token the answer says so, and nothing else."""
    status, found = await ask(method, path, headers={"Authorization": header})
    assert (status, found) in [(401, {"error": "the operator's token is needed"}), (404, None)]
    assert (status == 404) is (path == "x")


def test_the_token_is_the_users_own(tmp_path: Path) -> None:
    """It stays the same, and nobody else can read it."""
    token = own_token(tmp_path)
    assert len(token) > 40
    assert own_token(tmp_path) == token
    assert (tmp_path / "operator-token").stat().st_mode & 0o777 == 0o600


async def test_changes(rig: AdminRig, ask: Ask) -> None:
    """A title, who finds it, how long it is kept; each is written into the bucket at once."""
    recording = await only(ask)
    path = f"recordings/{recording['id']}"
    assert await ask("GET", path) == (200, recording)
    status, _ = await ask("PATCH", path, json={"title": "Größe", "keepDays": 30, "visibility": "unlisted"})
    changed = await only(ask)
    assert (status, rig.notifications) == (200, 1)
    assert (changed["title"], changed["visibility"]) == ("Größe", "unlisted")
    assert datetime.fromisoformat(changed["keepUntil"]) == rig.stream.now + timedelta(days=30)
    assert changed["address"] == f"https://live.example.com/watch/{changed['playlist'].partition('/')[0]}"
    assert changed["playlist"] != recording["playlist"]
    assert await ask("PATCH", path, json={"visibility": "unlisted"}) == (200, changed)  # its link stays
    await ask("PATCH", path, json={"keepDays": None, "visibility": "hidden"})
    hidden = await only(ask)
    assert (hidden["keepUntil"], hidden["open"]) == (None, None)
    assert (await ask("PATCH", path, json={"open": True}))[0] == 409  # the event is public
    assert hidden["playlist"] != recording["playlist"]
    (status, _) = await ask("DELETE", path)
    assert (status, rig.notifications) == (202, 3)
    (binned,) = await rig.stream.catalog.recordings.bin()
    assert binned.id == recording["id"]


async def test_a_file(rig: AdminRig, ask: Ask) -> None:
    """It is uploaded part by part, listed, and removed; senseless requests are refused."""
    path = f"recordings/{(await only(ask))['id']}/file"
    assert await ask("GET", path) == (200, {"file": None, "upload": None})
    for wrong in ({"name": "a.mp4", "size": 0}, {"name": "a.mp4", "size": 10**15}, {"name": "a.mp4"}):
        assert (await ask("POST", f"{path}/upload", json=wrong))[0] == 400
    assert (await ask("POST", f"{path}/upload", json={"name": "a.exe", "size": 5}))[0] == 409
    status, upload = await ask("POST", f"{path}/upload", json={"name": "../Ä.MP4", "size": 5})
    assert (status, upload["size"], upload["partSize"], upload["parts"]) == (200, 5, 16 * 2**20, {})
    (name,) = rig.store.uploads_
    part = {"key": upload["key"], "number": 1}
    assert await ask("POST", f"{path}/upload/part", json=part) == (
        200,
        {"url": f"https://bucket/{name}/1?5&900"},
    )
    for other in ({"number": 2}, {"number": 0}, {"number": -1}, {"key": "live/0/a.ts"}):
        assert (await ask("POST", f"{path}/upload/part", json={**part, **other}))[0] == 409
    rig.store.put_part(name, 1, b"12345")
    etag = etag_of({1: (hashlib.md5(b"12345").hexdigest(), 5)})
    whole = {"key": upload["key"], "etag": etag}
    assert (await ask("POST", f"{path}/upload/complete", json={**whole, "etag": "x"}))[0] == 400
    assert (await ask("POST", f"{path}/upload/complete", json=whole))[0] == 200
    status, found = await ask("GET", path)
    assert (found["upload"], found["file"]["etag"]) == (None, etag)
    file = (await only(ask))["file"]
    assert file == {"url": f"../files/{upload['key'].rpartition('/')[2]}", "size": 5, "type": "video/mp4"}
    await ask("POST", f"{path}/upload", json={"name": "a.mp4", "size": 7})
    assert (await ask("DELETE", f"{path}/upload"))[0] == 200
    assert (await ask("GET", path))[1]["upload"] is None
    assert (await ask("DELETE", path))[0] == 200
    assert (await only(ask))["file"] is None
    (binned,) = (await ask("GET", "bin"))[1]["files"]
    assert (await ask("POST", f"bin/{binned['id']}/restore"))[0] == 202
    assert (await only(ask))["file"] == file
    assert (await ask("DELETE", f"{path}?now=1"))[0] == 200
    assert (await ask("GET", "bin"))[1]["files"] == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '{"title": 5}',
        '{"title": "a\\nb"}',
        '{"keepDays": -1}',
        '{"keepDays": 0}',
        '{"visibility": "x"}',
        '{"x": 1}',
    ],
)
async def test_what_makes_no_sense(rig: AdminRig, ask: Ask, body: str) -> None:
    """It is refused, and changes nothing."""
    recording = await only(ask)
    status, found = await ask("PATCH", f"recordings/{recording['id']}", data=body)
    assert (status, found["error"].endswith("makes no sense")) == (400, True)
    assert (await only(ask), rig.notifications) == (recording, 0)
    assert await ask("PATCH", "recordings/x", data=body) == (404, None)


async def test_what_is_on_stays(rig: AdminRig, ask: Ask) -> None:
    """A recording whose stream is on can be called something, and not be deleted."""
    rig.stream.publish("0", run=1)
    _, found = await ask("GET", "recordings")
    path = f"recordings/{found['recordings'][0]['id']}"
    assert await ask("DELETE", path) == (409, {"error": "its stream is still on"})
    status, changed = await ask("PATCH", path, json={"title": "On"})
    assert (status, changed["title"]) == (200, "On")


async def test_clips(rig: AdminRig, ask: Ask) -> None:
    """They are of what is there, from five seconds to an hour."""
    begin, end = "2026-01-01T12:00:05Z", "2026-01-01T12:00:12Z"
    status, clip = await ask("POST", "clips", json={"begin": begin, "end": end, "title": "A goal"})
    assert (status, clip["title"], rig.notifications) == (201, "A goal", 1)
    assert (await ask("GET", "clips"))[1] == {"clips": [clip]}
    for wrong, expected in (
        ({"begin": begin, "end": "2026-01-01T12:00:09Z"}, 409),
        ({"begin": begin, "end": "2026-01-01T13:00:06Z"}, 409),
        ({"begin": begin, "end": "2026-01-01T12:00:30Z"}, 409),
        ({"begin": end, "end": begin}, 409),
        ({"begin": "0001-01-01T00:00:00+10:00", "end": "0001-01-01T00:00:10+10:00"}, 409),
        ({"begin": "2026-01-01T12:00:05", "end": end}, 400),
        ({"begin": begin}, 400),
        ({"begin": begin, "end": end, "last": 30}, 400),
        ({"last": 4}, 400),
        ({"last": 60}, 409),
        ({}, 400),
    ):
        status, found = await ask("POST", "clips", json=wrong)
        assert (status, "error" in found) == (expected, True)
    status, changed = await ask("PATCH", f"clips/{clip['id']}", json={"title": "The goal"})
    assert (status, changed) == (200, clip | {"title": "The goal"})
    assert (await ask("PATCH", f"clips/{clip['id']}", json={"title": "a\nb"}))[0] == 400
    assert (await ask("DELETE", f"clips/{clip['id']}"))[0] == 202
    assert (await ask("GET", "clips"))[1] == {"clips": []}
    (binned,) = (await ask("GET", "bin"))[1]["clips"]
    goes = datetime.fromisoformat(binned["goes"])
    assert (binned["id"], goes) == (clip["id"], rig.stream.now + timedelta(days=1))
    assert (await ask("POST", f"bin/{clip['id']}/restore"))[0] == 202
    assert [entry["id"] for entry in (await ask("GET", "clips"))[1]["clips"]] == [clip["id"]]
    assert (await ask("POST", f"bin/{clip['id']}/restore"))[0] == 404
    assert (await ask("DELETE", f"clips/{clip['id']}?now=1"))[0] == 202
    assert (await ask("DELETE", f"bin/{clip['id']}"))[0] == 404
    assert (await ask("DELETE", "clips/x"))[0] == 404


async def test_a_clip_of_the_last_seconds(rig: AdminRig, ask: Ask) -> None:
    """It ends where all qualities end that viewers see, whatever clock the operator's browser has."""
    rig.stream.publish("01", run=1, count=5)
    rig.stream.publish("0", run=1)
    status, clip = await ask("POST", "clips", json={"last": 7})
    times = [datetime.fromisoformat(clip[name]) for name in ("begin", "end")]
    end = rig.stream.newest - timedelta(seconds=2)
    assert (status, times) == (201, [end - timedelta(seconds=7), end])


async def test_where_they_are_watched(rig: AdminRig, ask: Ask) -> None:
    """At their pages; what is hidden, and where there are no pages, by the playlist."""
    recording = await only(ask)
    _, clip = await ask("POST", "clips", json={"last": 6})
    assert recording["address"] == f"https://live.example.com/watch/{recording['id']}"
    assert clip["address"] == f"https://live.example.com/c/{clip['id']}"
    await ask("PATCH", f"recordings/{recording['id']}", json={"visibility": "hidden"})
    folder = "https://video.example.com/live"
    hidden = await only(ask)
    assert hidden["address"] == f"{folder}/recordings/{hidden['playlist']}"
    rig.page = None
    found = (await ask("GET", "clips"))[1]["clips"][0]
    assert found["address"] == f"{folder}/clips/{clip['id']}/playlist.m3u8"


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ("keep", '{"pageUrl": "https://live.example.com/"}', "https://live.example.com/"),
        ("keep", '{"pageUrl": "javascript:alert(1)"}', "http://127.0.0.1:3000"),
        ("keep", "[]", "http://127.0.0.1:3000"),
        ("keep", None, "http://127.0.0.1:3000"),
        ("off", None, None),
    ],
)
def test_where_the_page_is(tmp_path: Path, settings: str, config: str | None, expected: str | None) -> None:
    """It is what the operator says in the page's own file, else where viewers are served."""
    if config:
        (tmp_path / "config.json").write_text(config)
    made = load(
        _env_file=None,
        BROADCASTER_HLS_DIR=tmp_path / "hls",
        BROADCASTER_STATE_DIR=tmp_path / "state",
        BROADCASTER_VIEWER_DIR=tmp_path,
        BROADCASTER_RECORDINGS=settings,
        R2_ENDPOINT_URL="http://127.0.0.1:1",
        R2_BUCKET="live",
        R2_ACCESS_KEY_ID="a",
        R2_SECRET_ACCESS_KEY="b",
        R2_PUBLIC_URL="https://video.example.com",
    )
    assert page_address(made, "http://127.0.0.1:3000") == expected


async def check_uploads_of_exports(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An upload goes on where the export has left its file: of a recording, and beside a stream at a rate."""
    page, other = f"https://live.example.com/watch/{name}?t=3", "https://b/live/playlist.m3u8"
    said = {name: "a stream is on", page: "a stream is on", other: "needs a recording"}
    for address, complaint in said.items():
        status = await asyncio.to_thread(main, ["export", address, str(file), "--upload"])
        assert (status, complaint in capsys.readouterr().err) == (1, True)


async def check_the_bin(run: Callable[..., Awaitable[tuple[int, str]]], name: str) -> None:
    """What is deleted is listed, restored, and deleted for good."""
    for days in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            await run("keep", name, days)
    assert "1 or more" in (await run("list"))[1]
    assert await run("delete", name) == (0, "")
    assert name in (await run("bin"))[1]
    assert "  bin" in (await run("list"))[1]
    assert await run("restore", name) == (0, "")
    assert await run("bin") == (0, "")
    assert (await run("delete", "x"))[0] == 1
    assert await run("delete", name) == (0, "")
    assert await run("delete", name, "--now") == (0, "")
    assert await run("bin") == (0, "")


async def test_the_command_line(
    rig: AdminRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks the service that runs; what cannot be done is one line, and exit status 1."""
    server = TestServer(rig.app)
    await server.start_server()
    for name, value in {
        "BROADCASTER_HLS_DIR": str(tmp_path / "hls"),
        "BROADCASTER_STATE_DIR": str(tmp_path),
        "BROADCASTER_ADMIN_HOST": "0.0.0.0",
        "BROADCASTER_ADMIN_PORT": str(server.port),
        "R2_ENDPOINT_URL": "http://127.0.0.1:1",
        "R2_BUCKET": "live",
        "R2_ACCESS_KEY_ID": "a",
        "R2_SECRET_ACCESS_KEY": "b",
        "R2_PUBLIC_URL": "https://video.example.com",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BROADCASTER_HLS_DIR", str(tmp_path.parent / "hls"))

    async def run(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(main, ["recordings", *arguments])
        output = capsys.readouterr()
        return status, output.out + output.err

    (recording,) = await rig.stream.recordings()
    status, text = await run("list")
    assert (status, text) == (0, f"{recording.id}    0:00:18        0.0 MB  listed\n")
    assert '"title": "A night"' in (await run("title", recording.id, "A night"))[1]
    assert '"visibility": "hidden"' in (await run("hide", recording.id))[1]
    assert '"visibility": "unlisted"' in (await run("hide", recording.id, "--unlisted"))[1]
    assert '"visibility": "listed"' in (await run("hide", recording.id, "--undo"))[1]
    assert '"keepUntil": "20' in (await run("keep", recording.id, "2"))[1]
    assert '"keepUntil": null' in (await run("keep", recording.id, "forever"))[1]
    assert '"A night"' in (await run("show", recording.id))[1]
    assert await run("sweep", "--dry-run") == (0, '{\n  "objects": 0\n}\n')
    await run("sweep")
    assert rig.swept == [True, False]
    assert await run("rebuild") == (0, '{\n  "recordings": 3\n}\n')
    file = tmp_path / "best.mp4"
    file.write_bytes(b"")
    status, text = await run("upload", recording.id, str(file))
    assert (status, "size makes no sense" in text) == (1, True)
    rig.report = HealthReport("live", 0, None)
    status, text = await run("upload", recording.id, str(file))
    assert (status, "a stream is on" in text, "--rate" in text) == (1, True, True)
    status, text = await run("upload", recording.id, str(file), "--service", "http://127.0.0.1:9")
    assert (status, "--token-file" in text) == (1, True)
    status, text = await run("upload", recording.id, str(tmp_path / "none.mp4"), "--rate", "64")
    assert (status, "No such file" in text) == (1, True)
    await check_uploads_of_exports(recording.id, file, capsys)
    assert await run("upload", recording.id, "--cancel") == (0, "")
    assert await run("upload", recording.id, "--remove") == (0, "")
    status, text = await run("show", "x")
    assert (status, "there is no such recording" in text) == (1, True)
    base, settings = "https://video.example.com/live/recordings", load()
    assert (
        await asyncio.to_thread(address_of, settings, recording.id, 1)
        == f"{base}/{recording.id}/playlist.m3u8"
    )
    for name, part, complaint in (
        (recording.id, 2, "has 1 parts"),
        ("none", 1, "no recording or clip 'none'"),
    ):
        with pytest.raises(AdminError, match=complaint):
            await asyncio.to_thread(address_of, settings, name, part)
    await check_the_bin(run, recording.id)
    await server.close()
    status, text = await run("list")
    assert (status, "is it running?" in text, text.count("\n")) == (1, True, 1)
    (tmp_path / "operator-token").unlink()
    status, text = await run("list")
    assert (status, "operator-token" in text, text.count("\n")) == (2, True, 1)


async def test_what_ends_in_the_future_is_deleted_at_once(rig: AdminRig, ask: Ask) -> None:
    """An encoder's clock may be wrong by years; what is to be deleted does not wait for them."""
    recording = await only(ask)
    rig.stream.now -= timedelta(days=1000)
    assert (await ask("DELETE", f"recordings/{recording['id']}?now=1"))[0] == 202
    assert [over.id for over in await rig.stream.catalog.recordings.expired()] == [recording["id"]]


@pytest.mark.parametrize("found", ["", "\n"])
def test_a_token_that_was_not_written(tmp_path: Path, found: str) -> None:
    """A first start on a full disk leaves no empty one for ever."""
    (tmp_path / "operator-token").write_text(found)
    token = own_token(tmp_path)
    assert len(token) > 40
    assert own_token(tmp_path) == token
    assert (tmp_path / "operator-token").stat().st_mode & 0o077 == 0
