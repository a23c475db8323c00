"""The fetcher reads many objects at once: in order, each once, despite interruptions and faults."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest

from broadcaster.download import Fetcher, FetchRequest
from broadcaster.download.packs import PackFiles
from broadcaster.errors import ObjectNotFound, StorageRefused, StorageUnavailable
from tests.support.faults.small_disk import small_disk
from tests.support.waiting import changes
from tests.unit.download.scripted_server import Answer, ScriptedServer, scripted_server

BODY = bytes(range(256)) * 400
ETAG = {"ETag": '"one"'}


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedServer]:
    monkeypatch.setattr("broadcaster.download.fetcher.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("broadcaster.download.fetcher.MAX_PAUSE", 0.001)
    async with scripted_server() as server:
        yield server


@contextlib.asynccontextmanager
async def fetching(**options: Any) -> AsyncIterator[Fetcher]:  # noqa: ANN401 - those of Fetcher
    async with aiohttp.ClientSession() as session, Fetcher(session, **options) as fetcher:
        yield fetcher


def figure(fetcher: Fetcher, name: str, *labels: str) -> float:
    return next(metric.samples[labels] for metric in fetcher.metrics() if metric.name == f"fetch_{name}")


async def test_order_and_parallel_requests(server: ScriptedServer) -> None:
    """Bodies come in order, however the answers arrive, with at most ``at_once`` requests at a time."""
    gates = [asyncio.Event() for _ in range(6)]
    server.answers = {f"/{n}": [Answer(b"%d" % n, gate=gate)] for n, gate in enumerate(gates)}
    async with fetching(at_once=3, bytes_in_flight=1000) as fetcher:
        wanted = [FetchRequest(f"{server.url}/{n}", size=1) for n in range(6)]
        got: list[bytes] = []

        async def read() -> None:
            async for _, body in fetcher.fetch(wanted):
                got.append(body)

        reading = asyncio.create_task(read())
        await changes(server.came, lambda: server.open == 3)
        for gate in gates[1:]:
            gate.set()
        await changes(server.came, lambda: len(server.asked) == 6)
        assert got == []
        gates[0].set()
        await reading
        assert got == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert (server.most, figure(fetcher, "most_in_flight")) == (3, 3)
        assert figure(fetcher, "misses") == 6
        assert 0 < figure(fetcher, "seconds_mean") <= figure(fetcher, "seconds_p95")


async def test_bytes_in_flight(server: ScriptedServer) -> None:
    """Objects as large as ``bytes_in_flight`` are fetched one after the other; larger objects are refused."""
    server.answers = {f"/{n}": [Answer(BODY)] for n in range(4)}
    async with fetching(bytes_in_flight=len(BODY)) as fetcher:
        wanted = [FetchRequest(f"{server.url}/{n}", size=len(BODY)) for n in range(4)]
        assert [body async for _, body in fetcher.fetch(wanted)] == [BODY] * 4
        assert server.most == 1
    async with fetching(bytes_in_flight=len(BODY) - 1) as fetcher:
        with pytest.raises(StorageRefused, match="larger than"):
            await fetcher.get(FetchRequest(f"{server.url}/0"))
    async with fetching(bytes_in_flight=10, largest=len(BODY)) as fetcher:
        assert [body async for _, body in fetcher.fetch(wanted)] == [BODY] * 4
    assert server.most == 1


async def test_a_shared_fetch(server: ScriptedServer) -> None:
    """Equal requests share a fetch, which is cancelled only when all of them have been cancelled."""
    gate = asyncio.Event()
    server.answers = {"/a": [Answer(BODY, gate=gate)], "/b": [Answer(gate=asyncio.Event()), Answer(b"b")]}
    async with fetching(memory=0) as fetcher:
        url, two, three = (
            asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/a"))) for _ in range(3)
        )
        await server.came.wait()
        url.cancel()
        await asyncio.wait([url])
        gate.set()
        assert (await two, await three) == (BODY, BODY)
        assert len(server.asked["/a"]) == 1
        assert (figure(fetcher, "misses"), figure(fetcher, "hits", "flight")) == (1, 2)
        server.came.clear()
        alone = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/b")))
        await server.came.wait()
        alone.cancel()
        await asyncio.wait([alone])
        assert await fetcher.get(FetchRequest(f"{server.url}/b")) == b"b"


async def test_an_interruption(server: ScriptedServer) -> None:
    """The next attempt requests the remaining bytes of the same version of the object."""
    total = len(BODY)
    rest = {**ETAG, "Content-Range": f"bytes 1000-{total - 1}/{total}"}
    server.answers["/a"] = [Answer(BODY, headers=ETAG, cut=1000), Answer(BODY[1000:], 206, rest)]
    async with fetching() as fetcher:
        wanted = FetchRequest(f"{server.url}/a", total, hashlib.sha256(BODY).hexdigest())
        assert await fetcher.get(wanted) == BODY
        assert [head.get("range") for head in server.asked["/a"]] == [None, "bytes=1000-"]
        assert server.asked["/a"][1]["if-range"] == '"one"'
        assert figure(fetcher, "failures") == 1
        assert figure(fetcher, "received_bytes") == total


@pytest.mark.parametrize(
    ("again", "requests"),
    [
        (Answer(b"new", headers={"ETag": '"two"'}), 2),
        (Answer(BODY[1000:], 206, {"ETag": '"two"', "Content-Range": f"bytes 1000-{len(BODY) - 1}/*"}), 3),
        (Answer(b"", 416), 3),
    ],
)
async def test_another_object_after_an_interruption(
    server: ScriptedServer, again: Answer, requests: int
) -> None:
    """The bytes of two versions of an object are never mixed."""
    server.answers["/a"] = [Answer(BODY, headers=ETAG, cut=1000), again, Answer(b"new")]
    async with fetching() as fetcher:
        assert await fetcher.get(FetchRequest(f"{server.url}/a")) == b"new"
    assert len(server.asked["/a"]) == requests


async def test_an_interruption_without_a_validator(server: ScriptedServer) -> None:
    """Without an ETag or a date, the whole object is requested again."""
    server.answers["/a"] = [Answer(BODY, headers={"ETag": 'W/"one"'}, cut=1000), Answer(BODY)]
    async with fetching() as fetcher:
        assert await fetcher.get(FetchRequest(f"{server.url}/a")) == BODY
    assert "range" not in server.asked["/a"][1]


async def test_ranges(server: ScriptedServer) -> None:
    """A range of an object is fetched despite an interruption, and from a server without ranges."""
    first = {**ETAG, "Content-Range": "bytes 100-299/102400"}
    rest = {**ETAG, "Content-Range": "bytes 150-299/102400"}
    server.answers["/a"] = [Answer(BODY[100:300], 206, first, cut=50), Answer(BODY[150:300], 206, rest)]
    server.answers["/b"] = [Answer(BODY)]
    async with fetching() as fetcher:
        for path in ("/a", "/b"):
            assert await fetcher.get(FetchRequest(server.url + path, offset=100, length=200)) == BODY[100:300]
        assert [head["range"] for head in server.asked["/a"]] == ["bytes=100-299", "bytes=150-299"]


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, ObjectNotFound, "no such object"),
        (403, StorageRefused, "may not be read"),
        (400, StorageRefused, "HTTP 400"),
    ],
)
async def test_permanent_failures(
    server: ScriptedServer, status: int, kind: type[StorageRefused], text: str
) -> None:
    """A permanent failure is raised at once, with the URL but without its signature."""
    server.answers = {"/a": [Answer(status=status)], "/b": [Answer(gate=asyncio.Event())]}
    async with fetching() as fetcher:
        wanted = [FetchRequest(f"{server.url}/a?X-Amz-Signature=secret"), FetchRequest(f"{server.url}/b")]
        with pytest.raises(kind, match=text) as raised:
            _ = [body async for _, body in fetcher.fetch(wanted)]
    assert f"{server.url}/a" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert len(server.asked["/a"]) == 1


@pytest.mark.parametrize(
    "url", ["ftp://example.com/a", "nothing", "http://", "http://[::1/a", "http://a..b/c"]
)
async def test_invalid_urls(url: str) -> None:
    """An invalid URL is refused."""
    async with fetching(patience=0) as fetcher:
        with pytest.raises(StorageRefused):
            await fetcher.get(FetchRequest(url))


async def test_a_redirect_to_an_invalid_url(server: ScriptedServer) -> None:
    """A redirect to an invalid URL is refused."""
    server.answers["/a"] = [Answer(status=302, headers={"Location": "http://a..b/c"})]
    async with fetching(patience=0) as fetcher:
        with pytest.raises(StorageRefused):
            await fetcher.get(FetchRequest(f"{server.url}/a"))


async def test_transient_failures(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transient failures and silence are retried, and raised after ``patience``."""
    monkeypatch.setattr("broadcaster.download.download.STALL", 0.2)
    silent = Answer(gate=asyncio.Event())
    server.answers["/a"] = [Answer(status=503), Answer(status=429), Answer(BODY, cut=0), silent, Answer(BODY)]
    server.answers["/b"] = [Answer(status=500)]
    async with fetching() as fetcher:
        assert await fetcher.get(FetchRequest(f"{server.url}/a")) == BODY
        assert fetcher.fault is None
        assert len(server.asked["/a"]) == 5
    async with fetching(patience=0) as fetcher:
        with pytest.raises(StorageUnavailable, match="HTTP 500"):
            await fetcher.get(FetchRequest(f"{server.url}/b"))
        assert fetcher.fault


async def test_wrong_bodies(server: ScriptedServer) -> None:
    """A body with a wrong size or SHA-256 is requested again, three times at most."""
    sha256 = hashlib.sha256(BODY).hexdigest()
    server.answers = {"/a": [Answer(b"x"), Answer(BODY[::-1]), Answer(BODY)], "/b": [Answer(BODY[::-1])]}
    async with fetching() as fetcher:
        assert await fetcher.get(FetchRequest(f"{server.url}/a", len(BODY), sha256)) == BODY
        with pytest.raises(StorageRefused, match="SHA-256"):
            await fetcher.get(FetchRequest(f"{server.url}/b", len(BODY), sha256))
        assert len(server.asked["/b"]) == 3


async def test_memory(server: ScriptedServer) -> None:
    """The most recently used objects stay in memory, under their name if they have a name."""
    server.answers = {f"/{n}": [Answer(BODY)] for n in range(3)}
    async with fetching(memory=2 * len(BODY)) as fetcher:
        for n in (0, 1, 0, 2, 0):
            await fetcher.get(FetchRequest(f"{server.url}/{n}"))
        assert (figure(fetcher, "misses"), figure(fetcher, "hits", "memory")) == (3, 2)
        assert figure(fetcher, "hit_ratio") == pytest.approx(0.4)
        assert figure(fetcher, "kept_bytes", "memory") == 2 * len(BODY)
        await fetcher.get(FetchRequest(f"{server.url}/1", name="one"))
        await fetcher.get(FetchRequest(f"{server.url}/1?signature=new", name="one"))
        assert len(server.asked["/1"]) == 2


async def test_disk(server: ScriptedServer, tmp_path: Path) -> None:
    """Objects on disk survive a restart and are checked; damaged and incomplete objects are fetched again."""
    server.answers = {f"/{n}": [Answer(b"%d" % n + BODY)] for n in range(4)}
    wanted = [FetchRequest(f"{server.url}/{n}") for n in range(4)]
    options = {"memory": 0, "disk": tmp_path / "cache", "disk_bytes": 3 * (len(BODY) + 73)}
    async with fetching(**options) as fetcher:
        for url in wanted:
            await fetcher.get(url)
    kept = sorted((tmp_path / "cache").glob("*.pack"))
    assert len(kept) == 3
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"?")
    async with fetching(**options) as fetcher:
        assert [body async for _, body in fetcher.fetch(wanted[1:])] == [b"%d" % n + BODY for n in (1, 2, 3)]
        assert (figure(fetcher, "misses"), figure(fetcher, "hits", "disk")) == (1, 2)
    assert [len(asked) for asked in server.asked.values()] == [1, 2, 1, 1]


async def all_of_them(fetcher: Fetcher, server: ScriptedServer) -> None:
    server.answers = {f"/{n}": [Answer(BODY)] for n in range(3)}
    for n in range(3):
        assert await fetcher.get(FetchRequest(f"{server.url}/{n}")) == BODY


async def test_without_a_disk(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the folder is gone or in use by another process, that is logged once, and the disk is not used."""
    caplog.set_level(logging.WARNING)
    async with fetching(disk=tmp_path / "one"), fetching(disk=tmp_path / "one") as second:
        await all_of_them(second, server)
    async with fetching(disk=tmp_path / "two") as fetcher:
        shutil.rmtree(tmp_path / "two")
        await all_of_them(fetcher, server)
    in_use, missing = (record.getMessage() for record in caplog.records)
    assert in_use.endswith(": another process uses the folder; continuing without the cache on disk")
    assert missing.endswith(": No such file or directory; continuing without the cache on disk")


async def test_a_disk_that_cannot_be_read(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects that cannot be read from the disk are fetched again."""

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    server.answers = {"/0": [Answer(BODY)]}
    wanted = FetchRequest(f"{server.url}/0")
    async with fetching(memory=0, disk=tmp_path / "cache") as fetcher:
        await fetcher.get(wanted)
    async with fetching(memory=0, disk=tmp_path / "cache") as fetcher:
        assert await fetcher.has(wanted)
        monkeypatch.setattr(PackFiles, "check", fail)
        monkeypatch.setattr(PackFiles, "read", fail)
        assert not await fetcher.has(wanted)
        assert await fetcher.get(wanted) == BODY


async def test_a_full_disk(server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is logged once and not used, and no incomplete object stays."""
    with small_disk(tmp_path / "small", 1) as disk:
        if isinstance(disk, str):
            pytest.skip(disk)
        async with fetching(disk=disk.folder) as fetcher:
            disk.fill()
            await all_of_them(fetcher, server)
        assert not list(disk.folder.glob("*.pack"))
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "No space left on device; continuing without the cache on disk"
    ]


async def test_urgent_fetches_go_first(server: ScriptedServer) -> None:
    """An urgent fetch interrupts the others, which are resumed after it, a few at a time."""
    gate = asyncio.Event()
    server.answers = {f"/{n}": [Answer(gate=asyncio.Event()), Answer(b"%d" % n)] for n in range(20)}
    server.answers["/live"] = [Answer(b"live", gate=gate)]
    async with fetching(at_once=8, reserved=32 * 2**20, background_at_once=2) as fetcher:
        old = [asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/{n}"))) for n in range(20)]
        await changes(server.came, lambda: server.open == 2)
        live = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/live"), urgent=True))
        await changes(server.came, lambda: "/live" in server.asked)
        assert len(server.asked) == 3
        gate.set()
        assert await live == b"live"
        for answers in server.answers.values():
            for answer in answers:
                if answer.gate:
                    answer.gate.set()
        await asyncio.gather(*old)
        assert server.most <= 4


async def test_a_fetch_that_becomes_urgent(server: ScriptedServer) -> None:
    """A waiting background fetch runs at once when it becomes urgent."""
    server.answers = {"/busy": [Answer(gate=asyncio.Event())], "/a": [Answer(b"a")]}
    async with fetching(reserved=2**20, background_at_once=1) as fetcher:
        busy = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/busy")))
        await changes(server.came, lambda: server.open == 1)
        waits = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/a")))
        for _ in range(20):  # until it waits
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert await fetcher.get(FetchRequest(f"{server.url}/a"), urgent=True) == b"a"
        assert await waits == b"a"
        busy.cancel()


async def test_a_sha256_that_is_known_later(server: ScriptedServer) -> None:
    """An object that was fetched before its SHA-256 was known is fetched again only if it is wrong."""
    right = hashlib.sha256(BODY).hexdigest()
    server.answers = {"/a": [Answer(BODY)], "/b": [Answer(b"wrong"), Answer(BODY)]}
    async with fetching(unchecked_for=60.0) as fetcher:
        for path, times in (("/a", 1), ("/b", 2)):
            await fetcher.get(FetchRequest(server.url + path))
            assert await fetcher.get(FetchRequest(server.url + path, sha256=right)) == BODY
            assert len(server.asked[path]) == times


async def test_received_bytes_are_counted(server: ScriptedServer) -> None:
    """Large objects after small objects are not in memory all at once: received bytes are counted."""
    large = bytes(10 * len(BODY))
    gates = [asyncio.Event() for _ in range(8)]
    server.answers = {f"/small{n}": [Answer(b"x")] for n in range(40)}
    server.answers |= {f"/{n}": [Answer(large, gate=gate)] for n, gate in enumerate(gates)}
    async with fetching(at_once=8, bytes_in_flight=2 * len(large), memory=0) as fetcher:
        for number in range(40):
            await fetcher.get(FetchRequest(f"{server.url}/small{number}"))
        room, most = fetcher._bytes, 0  # noqa: SLF001 - nobody else knows

        async def get(number: int) -> None:
            nonlocal most
            await fetcher.get(FetchRequest(f"{server.url}/{number}"))
            most = max(most, room.taken)

        for gate in gates:
            gate.set()
        await asyncio.gather(*(get(number) for number in range(8)))
        assert 0 < most <= 3 * len(large)
        assert room.taken == 0


async def test_a_failed_download_that_pauses(server: ScriptedServer) -> None:
    """A download that pauses keeps its bytes, but is no longer the eldest: others have its slot."""
    gate = asyncio.Event()
    server.answers = {"/0": [Answer(b"", 503, gate=gate), Answer(BODY)], "/1": [Answer(BODY)]}
    async with fetching(at_once=1, bytes_in_flight=len(BODY) + 1) as fetcher:
        first = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/0", size=len(BODY))))
        await changes(server.came, lambda: server.open == 1)
        second = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/1")))
        await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(30):
            assert [await first, await second] == [BODY, BODY]


async def test_an_urgent_fetch_needs_no_bytes_of_a_paused_fetch(server: ScriptedServer) -> None:
    """An urgent fetch does not wait for the bytes of a background fetch that is paused for it."""
    server.answers = {f"/{n}": [Answer(gate=asyncio.Event()), Answer(BODY)] for n in range(2)}
    room = len(BODY) + 1
    async with fetching(bytes_in_flight=2 * room, reserved=room, background_at_once=2) as fetcher:
        old = asyncio.create_task(fetcher.get(FetchRequest(f"{server.url}/0", size=len(BODY))))
        wanted = FetchRequest(f"{server.url}/1")
        waits = asyncio.create_task(fetcher.get(wanted))
        await changes(server.came, lambda: server.open == 2)
        async with asyncio.timeout(10):
            assert await fetcher.get(wanted, urgent=True) == BODY
            assert [await old, await waits] == [BODY, BODY]
