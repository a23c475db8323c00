"""The listener of an encoder that pushes: what it takes, what it refuses, and what survives a kill."""

from __future__ import annotations

import asyncio
import base64
import errno
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import eq
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from broadcaster import push
from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.events import SourceEvent
from broadcaster.http import listening
from broadcaster.http.connections import BodyGatherer
from broadcaster.push import PushedFile, PushFolder, PushSource
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.length import SOAK
from tests.support.waiting import eventually

KEY = "a-key-of-an-encoder"
BEARER = {"Authorization": f"Bearer {KEY}"}


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Ingest:
    """A source with its listener, and what it found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "push"
        self.room = 100_000_000
        self.segments: list[Segment] = []
        self.found = asyncio.Event()
        self.address = ""
        self.texts = HlsWriter(folder / "texts")
        self.source = PushSource(
            self.folder, KEY, lambda: datetime.now(UTC), SourceSnapshot(), lambda: self.room
        )

    async def take(self, event: SourceEvent) -> None:
        if isinstance(event, Segment):
            self.segments.append(event)
            self.found.set()

    async def put(
        self, path: str, body: bytes | AsyncIterator[bytes], *, method: str = "PUT", **headers: str
    ) -> int:
        """Send a file on a connection of its own; returns the status."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, f"{self.address}/ingest/{path}", data=body, headers=BEARER | headers
            ) as answer,
        ):
            await answer.read()
            return answer.status

    async def raw(self, *parts: bytes, close: bool = False) -> bytes:
        """The answer to bytes on a connection, until its end; with ``close`` the connection is cut first."""
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.writelines(parts)
            await writer.drain()
            if close:
                return b""
            async with asyncio.timeout(60):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def text(self, numbers: range) -> bytes:
        """A playlist."""
        return self.texts.text(numbers).encode()

    def outside(self, folder: Path) -> list[Path]:
        """What there is beside the files."""
        return sorted(path for path in folder.rglob("*") if not path.is_relative_to(self.folder))

    def names(self) -> list[str]:
        """The files that there are."""
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())


@asynccontextmanager
async def running(ingest: Ingest) -> AsyncIterator[Ingest]:
    """A source that runs, with its listener."""
    async with listening(ingest.source.app(), "127.0.0.1", 0, "") as ingest.address:
        task = asyncio.create_task(ingest.source.run(ingest.take))
        try:
            yield ingest
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    """A source that runs, with its listener."""
    async with running(Ingest(tmp_path)) as ingest:
        yield ingest


def media(number: int, packets: int = 3) -> bytes:
    """A segment of its own bytes."""
    return (PACKET[:-1] + bytes([number])) * packets


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A body in chunks."""
    for part in parts:
        yield part


async def test_segments_and_playlists_become_segments(ingest: Ingest) -> None:
    """Chunked or sized, by PUT or POST, in the root or in a folder: each listed segment is found once."""
    for number in range(3):
        body = media(number)
        chunked = pieces(body[:100], body[100:])
        name = ingest.texts.name(number)
        assert await ingest.put(f"0/{name}", chunked if number % 2 else body) == 201
        assert await ingest.put("0/stream.m3u8", ingest.text(range(number + 1)), method="POST") == 201
    await eventually(lambda: len(ingest.segments) == 3)
    assert [segment.sequence for segment in ingest.segments] == [0, 1, 2]
    assert [segment.variant for segment in ingest.segments] == ["0"] * 3
    files = [segment.file for segment in ingest.segments]
    assert [file and file.path.read_bytes() for file in files] == [media(number) for number in range(3)]


async def test_a_playlist_before_its_segment(ingest: Ingest) -> None:
    """A segment that is under way when its playlist arrives is waited for, however slow it is."""
    rest = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield media(0, 800)  # more than is written at once
        await rest.wait()
        yield media(0)

    upload = asyncio.create_task(ingest.put(ingest.texts.name(0), slow()))
    await eventually(lambda: any(name.endswith(".tmp") for name in ingest.names()))
    assert await ingest.put("stream.m3u8", ingest.text(range(1))) == 201
    first = ingest.source.scanned_at
    await eventually(lambda: ingest.source.scanned_at > first + 3)  # longer than a missing file is waited for
    assert ingest.segments == []
    rest.set()
    assert await upload == 201
    await eventually(lambda: ingest.segments)
    assert ingest.segments[0].fault is None


async def test_the_same_file_twice(ingest: Ingest) -> None:
    """A file that is sent again after a time-out is the one that there is, and no new segment."""
    name = ingest.texts.name(0)
    assert await ingest.put(name, media(0)) == 201
    assert await ingest.put("stream.m3u8", ingest.text(range(1))) == 201
    await eventually(lambda: ingest.segments)
    assert await ingest.put(name, media(0)) == 200
    assert await ingest.put(ingest.texts.name(1), media(1)) == 201
    assert await ingest.put("stream.m3u8", ingest.text(range(2))) == 201
    await eventually(lambda: len(ingest.segments) == 2)
    assert len({segment.run for segment in ingest.segments}) == 1


async def test_a_film_that_begins_again(ingest: Ingest) -> None:
    """An encoder that begins anew with the same bytes under the same names sends other segments."""
    for run in range(2):
        ingest.texts.start += timedelta(seconds=60 * run)
        for number in range(3):
            assert await ingest.put(f"{number}.ts", media(number)) == (200 if run else 201)
            text = ingest.text(range(number + 1)).replace(b"stream-abc-", b"")
            assert await ingest.put("stream.m3u8", text) == 201
        await eventually(partial(len, ingest.segments), partial(eq, 3 * (run + 1)))
    assert [segment.sequence for segment in ingest.segments] == [0, 1, 2] * 2
    assert len({segment.run for segment in ingest.segments}) == 2
    await eventually(lambda: ingest.source.files.waiting == 0)


async def test_delete_is_a_hint(ingest: Ingest) -> None:
    """What an encoder wants deleted stays until the service is done with it."""
    assert await ingest.put(ingest.texts.name(0), media(0)) == 201
    assert await ingest.put(ingest.texts.name(0), b"", method="DELETE") == 204
    assert await ingest.put("nothing.ts", b"", method="DELETE") == 204
    assert await ingest.put("stream.m3u8", ingest.text(range(1))) == 201
    await eventually(lambda: ingest.segments)
    assert ingest.segments[0].fault is None


async def test_what_is_not_followed(ingest: Ingest) -> None:
    """A DASH manifest and a probe without a body are answered, and not kept."""
    assert await ingest.put("live.mpd", b"<MPD/>") == 200
    assert await ingest.put("probe.ts", b"") == 200
    await eventually(lambda: ingest.names() == [])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("a.ts", BEARER, 201),
        ("a.ts", basic("encoder", KEY), 201),
        ("a.ts", basic(KEY, ""), 201),
        (f"{KEY}/a.ts", {}, 201),
        (f"{KEY}/a.ts", BEARER, 201),
        ("a.ts", {}, 401),
        (f"{KEY}x/a.ts", {}, 401),
        (f"{KEY}/a.ts", basic("encoder", "wrong"), 401),
        ("a.ts", {"Authorization": f"Bearer {KEY}x"}, 401),
        ("a.ts", {"Authorization": "Basic !"}, 401),
        ("a.ts", {"Authorization": f"Digest {KEY}"}, 401),
    ],
)
async def test_the_key(ingest: Ingest, path: str, headers: dict[str, str], status: int) -> None:
    """The key is a bearer token, the password or user of Basic, or the first part of the path."""
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{ingest.address}/ingest/{path}", data=media(0), headers=headers) as answer,
    ):
        assert answer.status == status
        assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert ingest.names() == (["a.ts"] if status == 201 else [])


async def test_expect_and_keep_alive(ingest: Ingest) -> None:
    """A body is asked for when it may come, and one connection carries many files."""
    head = (
        f"PUT /ingest/{KEY}/a.ts HTTP/1.1\r\nHost: a\r\nContent-Length: 188\r\nExpect: 100-continue\r\n\r\n"
    )
    refused = await ingest.raw(head.replace(KEY, "wrong").encode())
    assert refused.startswith(b"HTTP/1.1 401")
    last = f"DELETE /ingest/{KEY}/a.ts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    answer = await ingest.raw(head.encode(), PACKET, head.replace("a.ts", "b.ts").encode(), PACKET, last)
    assert [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/")] == [
        *(b"100", b"201", b"100", b"201", b"204"),
    ]
    assert ingest.names() == ["a.ts", "b.ts"]


@pytest.mark.parametrize(
    "head", [b"Content-Length: 564\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n10000\r\n"]
)
async def test_an_upload_that_is_cut_is_no_segment(ingest: Ingest, head: bytes) -> None:
    """Of an upload whose connection ends before it is whole, nothing stays."""
    request = f"PUT /ingest/{KEY}/a.ts HTTP/1.1\r\nHost: a\r\n".encode()
    await ingest.raw(request + head + PACKET, close=True)
    await eventually(ingest.source.metrics, lambda metrics: _outcome(metrics, "cut"))
    await eventually(lambda: ingest.names() == [])


@pytest.mark.parametrize("count", [1, 3000])
async def test_a_client_that_waits_for_no_answer(ingest: Ingest, count: int) -> None:
    """A file is stored although its client has closed the connection: ffmpeg does so after each file."""
    head = f"PUT /ingest/{KEY}/a.ts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = media(1, count)
    await ingest.raw(head, f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n", close=True)
    await eventually(lambda: ingest.names() == ["a.ts"])
    assert (ingest.folder / "a.ts").read_bytes() == body


def _outcome(metrics: object, outcome: str) -> float:
    found = next(metric for metric in metrics if metric.name == "push_requests")  # type: ignore[attr-defined]
    return float(found.value[outcome])


async def test_a_full_spool_is_said_and_nothing_is_lost(ingest: Ingest) -> None:
    """Past the limit a file is refused with 503 and Retry-After, sized or chunked; then it is taken again."""
    ingest.room = 1000
    for body in (media(0, 10), pieces(media(0, 10), media(0, 2000))):
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{ingest.address}/ingest/a.ts", data=body, headers=BEARER) as answer,
        ):
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
    await eventually(lambda: ingest.names() == [])
    assert await ingest.put("a.ts", media(0, 5)) == 201
    assert await ingest.put("b.ts", media(0, 5)) == 503  # a.ts is not taken yet
    ingest.room = 100_000
    assert await ingest.put("b.ts", media(0, 5)) == 201
    assert ingest.names() == ["a.ts", "b.ts"]


HOSTILE_NAMES = (
    *("../a.ts", "..%2fa.ts", "%2e%2e/a.ts", "%2e%2e%2fa.ts", "..%5ca.ts", "0/../../a.ts", "/etc/a.ts"),
    *(
        "a%00.ts",
        "%00",
        "",
        ".",
        "..",
        "...",
        "0/",
        "0//a.ts",
        "0/1/2/a.ts",
        ".hidden.ts",
        "0/.a.ts",
        "~/a.ts",
    ),
    *(
        "a.ts.tmp",
        "a%0a.ts",
        "a%0d%0aX: y.ts",
        "%c0%ae%c0%ae/a.ts",
        "%ff.ts",
        "a" * 300 + ".ts",
        "a%2ets/b/c",
    ),
    *(
        "%252e%252e%252fa.ts",
        "a?b.ts%3f",
        "~/a.ts",
        "a%2ets/b/c",
        "|a.ts",
        "<a>.ts",
        "a\\b.ts",
        " a.ts",
        "%20a.ts",
    ),
    *("/".join("a" * 40) + "/a.ts", "a" * 3000, "0%2fa.ts", "%2e/a.ts", "0;x/../a.ts", "%e2%80%ae.ts"),
)
HOSTILE_HEADS = (
    *(
        "Content-Length: -1",
        "Content-Length: 1e9",
        "Content-Length: 99999999999999999999",
        "Content-Length: 1, 2",
    ),
    *("Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\nContent-Length: 3", "Expect: 200-ok"),
    *("Content-Length: 300000000", "A: " + "a" * 100_000, "Content-Encoding: gzip\r\nContent-Length: 3"),
    *("\r\n".join(f"H{count}: {'a' * 200}" for count in range(200)), "Host: b", ": x", "A\x00: b", ""),
    *(
        "Authorization: Bearer " + "x" * 3000,
        "Authorization: Basic ====",
        "Authorization:",
        "Range: bytes=0-",
    ),
)
METHODS = ("PUT", "POST", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "TRACE", "put", "P" * 5000)
BODIES = (b"", b"abc", b"zz\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffff\r\nabc")


async def test_hostile_requests(ingest: Ingest, tmp_path: Path) -> None:
    """None is answered with a fault of ours, none writes outside of the folder, and then all goes on."""
    before = ingest.outside(tmp_path)
    made = itertools.product(METHODS, HOSTILE_NAMES, HOSTILE_HEADS)
    chosen = itertools.islice(made, 0, None, 3)
    texts = [
        f"{method} /ingest/{KEY}/{name} HTTP/1.1\r\nHost: a\r\n{head}\r\nConnection: close\r\n\r\n".encode()
        + BODIES[count % len(BODIES)]
        for count, (method, name, head) in enumerate(chosen)
    ][:2000]
    assert len(texts) == 2000
    turns = asyncio.Semaphore(20)

    async def send(text: bytes) -> bytes:
        async with turns:
            host, _, port = ingest.address.removeprefix("http://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(text)
            writer.write_eof()
            try:
                async with asyncio.timeout(60):
                    return (await reader.read())[:12]
            except ConnectionError:
                return b""
            finally:
                writer.close()

    answers = await asyncio.gather(*map(send, texts if SOAK else texts[::3]))
    assert not [answer for answer in answers if answer.startswith(b"HTTP/1.1 500")]
    assert ingest.outside(tmp_path) == before
    await eventually(lambda: not [name for name in ingest.names() if name.endswith(".tmp")])
    assert all(".." not in name and name.count("/") <= 1 for name in ingest.names())
    assert await ingest.put("0/good.ts", media(1)) == 201


async def test_slow_writers_do_not_slow_a_good_one(ingest: Ingest) -> None:
    """With 200 uploads that do not go on, a good one is as fast as ever; too many give way to it."""
    host, _, port = ingest.address.removeprefix("http://").rpartition(":")
    slow = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    for count, (_, writer) in enumerate(slow):
        head = f"PUT /ingest/{KEY}/slow-{count}.ts HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
        writer.write(head.encode() + PACKET)
    await eventually(lambda: len(ingest.names()) == 200)
    try:
        async with asyncio.timeout(20):  # as long as one of those may be silent
            for number in range(10):
                assert await ingest.put(f"good-{number}.ts", media(number, 5000)) == 201
    finally:
        for _, writer in slow:
            writer.close()
    await eventually(lambda: len(ingest.names()) == 10)


async def test_a_trickle_is_read_seldom(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder sends its media as it comes: many small pieces are read together, and none is missed."""
    monkeypatch.setattr(BodyGatherer, "LONGEST", 0.05)
    monkeypatch.setattr(BodyGatherer, "SHORTEST", 0.05)
    reads = list[bytes]()
    write = ingest.source.files.write

    def note(upload: PushedFile, *parts: bytes) -> None:
        reads.extend(parts)
        write(upload, *parts)

    monkeypatch.setattr(ingest.source.files, "write", note)

    assert await ingest.put("a.ts", trickle()) == 201
    whole = b"".join(media(number, 1) for number in range(100))
    assert (ingest.folder / "a.ts").read_bytes() == b"".join(reads) == whole
    assert len(reads) <= 6


async def trickle() -> AsyncIterator[bytes]:
    """A segment in small pieces, as it is encoded."""
    for number in range(100):
        yield media(number, 1)
        await asyncio.sleep(0.005)


async def test_segments_that_take_equally_long(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the time that an encoder takes is known, pieces in the middle are left alone for longer."""
    monkeypatch.setattr(BodyGatherer, "ALIKE", 100)  # whatever the load of this machine
    pauses, pause = list[float](), BodyGatherer.pause

    def note(bodies: BodyGatherer, elapsed: float) -> float:
        pauses.append(pause(bodies, elapsed))
        return pauses[-1]

    monkeypatch.setattr(BodyGatherer, "pause", note)
    longest = []
    for name in ("a.ts", "b.ts", "c.ts"):
        pauses.clear()
        assert await ingest.put(name, trickle()) == 201
        longest.append(max(pauses))
    assert longest[0] == BodyGatherer.LONGEST < longest[2]
    assert (ingest.folder / "c.ts").read_bytes() == (ingest.folder / "a.ts").read_bytes()


async def test_the_time_of_a_playlist_says_nothing_of_segments(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a segment takes is learned of segments: a playlist comes between each two."""
    noted = list[float]()
    monkeypatch.setattr(BodyGatherer, "note", lambda _, took: noted.append(took))
    assert await ingest.put("a.ts", media(1, 5000)) == 201
    assert await ingest.put("stream.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n") == 201
    assert len(noted) == 1


@pytest.mark.parametrize("name", ["a.ts", "stream.m3u8"])
async def test_a_file_too_many(ingest: Ingest, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file that cannot be begun is refused, however small it is, and the encoder is told to try again."""
    monkeypatch.setattr(push, "MAX_FILES", 0)
    assert await ingest.put(name, media(1, 1)) == 503
    assert ingest.names() == []


@pytest.mark.parametrize("count", [1, 4000])
async def test_a_piece_that_cannot_be_written(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A file of which one piece could not be written is refused, although the next could be."""
    results = itertools.chain([OSError(errno.ENOSPC, "No space left on device")], itertools.repeat(None))

    def full_once(descriptor: int, parts: Sequence[bytes]) -> int:
        if error := next(results):
            raise error
        return os.write(descriptor, b"".join(parts)[:1000])  # a call may leave some

    monkeypatch.setattr(push, "os", SimpleNamespace(**{**vars(os), "writev": full_once}))
    assert await ingest.put("a.ts", media(1, count)) == 507
    await eventually(lambda: ingest.names() == [])
    assert await ingest.put("a.ts", media(1, count)) == 201
    assert (ingest.folder / "a.ts").read_bytes() == media(1, count)


async def test_files_go_when_nothing_needs_them(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of taken segments some stay for a while, playlists stay, and what no playlist lists goes at last."""
    for number in range(4):
        assert await ingest.put(ingest.texts.name(number), media(number)) == 201
    assert await ingest.put("stream.m3u8", ingest.text(range(4))) == 201
    await eventually(lambda: len(ingest.segments) == 4)
    assert await ingest.put("0/unlisted.ts", media(9)) == 201
    folder, loop = ingest.source.files, asyncio.get_running_loop()
    await eventually(lambda: folder.waiting == len(media(9)))
    monkeypatch.setattr(push, "KEPT_FILES", 2)
    folder.sweep(loop.time() + 30)
    assert len(ingest.names()) == 6
    folder.sweep(loop.time() + 120)
    assert ingest.names() == ["0/unlisted.ts", *map(ingest.texts.name, (2, 3)), "stream.m3u8"]
    folder.sweep(loop.time() + 4000)
    assert ingest.names() == ["stream.m3u8"]
    assert folder.waiting == 0
    assert not (ingest.folder / "0").exists()


class Kills:
    """Copies the folder at each call of the operating system: what a kill there would leave."""

    def __init__(self, root: Path, copies: Path) -> None:
        self._root, self._copies = root, copies
        self.states: list[tuple[str, Path]] = []

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)
        if name not in {"open", "write", "fsync", "close"}:
            return found
        return self._watched(name, found)

    def note(self, name: str) -> None:
        """Copy the folder."""
        copy = self._copies / str(len(self.states))
        shutil.copytree(self._root, copy)
        self.states.append((name, copy))

    def _watched(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def watched(*args: object, **extra: object) -> object:
            self.note(f"before {name}")
            try:
                return call(*args, **extra)
            finally:
                self.note(f"after {name}")

        return watched


@pytest.mark.parametrize("name", ["0/a.ts", "0/stream.m3u8"])
def test_a_kill_at_each_step_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Killed anywhere, a file is whole or not there, what was answered stays, and nothing is left over."""
    folder = PushFolder(tmp_path / "push", SourceSnapshot())
    bodies = [media(1, 20), media(2, 30)]
    answered: list[tuple[int, bytes]] = []
    kills = Kills(folder.root, tmp_path / "copies")
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(push, "os", kills)
    for body in bodies:
        upload = PushedFile(folder.root / name)
        folder.open(upload)
        for start in range(0, len(body), 1000):
            folder.write(upload, body[start : start + 1000])
        assert folder.commit(upload, replace=True)
        answered.append((len(kills.states), body))
    monkeypatch.setattr(push, "os", os)
    assert len(kills.states) > 30
    for count, (step, copy) in enumerate(kills.states):
        after = PushFolder(copy, SourceSnapshot())
        files = [path for path in copy.rglob("*") if path.is_file()]
        found = [path.read_bytes() for path in files]
        sure = [body for at, body in answered if at <= count]
        assert all(path == copy / name for path in files), step
        assert all(body in bodies for body in found), step
        assert not sure or found[0] in bodies[bodies.index(sure[-1]) :], step
        assert after.waiting == (len(found[0]) if found and name.endswith(".ts") else 0)


def test_a_playlist_is_news_before_the_version_before_is_freed(tmp_path: Path) -> None:
    """What the kernel needs to free the blocks of a replaced file delays no segment."""
    folder, held = PushFolder(tmp_path / "push", SourceSnapshot()), list[bool]()

    def named() -> None:
        assert (folder.root / "stream.m3u8").read_bytes() == bodies[len(held)]
        held.append(str(folder.root / "stream.m3u8 (deleted)") in open_files())

    bodies = [b"#EXTM3U\n", b"#EXTM3U\n#EXT-X-VERSION:3\n"]
    for body in bodies:
        upload = PushedFile(folder.root / "stream.m3u8")
        folder.open(upload)
        folder.write(upload, body)
        folder.commit(upload, replace=False, named=named)
    assert held == [False, True]
    assert not any(str(folder.root) in path for path in open_files())


def open_files() -> list[str]:
    """The paths of this process's descriptors."""
    paths = list[str]()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            paths.append(str(descriptor.readlink()))
    return paths


def test_a_file_on_its_way_again_replaces_the_earlier_upload(tmp_path: Path) -> None:
    """Of two uploads of one file the later counts; the earlier is refused, and takes nothing away."""
    folder = PushFolder(tmp_path / "push", SourceSnapshot())
    first, second = PushedFile(folder.root / "a.ts"), PushedFile(folder.root / "a.ts")
    folder.open(first)
    folder.write(first, media(1))
    folder.open(second)
    folder.write(second, media(2))
    with pytest.raises(push.PushRefused):
        folder.commit(first, replace=True)
    folder.abort(first)
    assert folder.commit(second, replace=True)
    assert (folder.root / "a.ts").read_bytes() == media(2)
    assert [path.name for path in folder.root.iterdir()] == ["a.ts"]


def test_what_was_not_taken_is_not_replaced_at_once(tmp_path: Path) -> None:
    """A segment that the spool has not taken yet keeps its name, unless there is no waiting for it."""
    folder = PushFolder(tmp_path / "push", SourceSnapshot())
    for body, replaced in ((media(1), True), (media(2), None)):
        upload = PushedFile(folder.root / "a.ts")
        folder.open(upload)
        folder.write(upload, body)
        assert folder.commit(upload, replace=False) is replaced
    assert (folder.root / "a.ts").read_bytes() == media(1)
    assert folder.commit(upload, replace=True)
    assert (folder.root / "a.ts").read_bytes() == media(2)


def test_disk_full_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files and of folders is bounded."""
    folder = PushFolder(tmp_path / "push", SourceSnapshot())
    monkeypatch.setattr(push, "MAX_FOLDERS", 1)
    monkeypatch.setattr(push, "MAX_FILES", 2)
    folder.open(PushedFile(folder.root / "0/a.ts"))
    with pytest.raises(push.PushRefused, match="folders"):
        folder.open(PushedFile(folder.root / "1/a.ts"))
    folder.open(PushedFile(folder.root / "0/b.ts"))
    with pytest.raises(push.PushRefused, match="files"):
        folder.open(PushedFile(folder.root / "0/c.ts"))
