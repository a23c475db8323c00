"""What the edge's Worker refuses: it stores nothing of it, and tells nobody."""

import asyncio
import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broadcaster.edge import MAX_PUSH, EdgeClient, encode
from tests.integration.hostile_requests import hostile_requests
from tests.integration.test_hostile import crawl
from tests.support import length
from tests.support.fakes.edge_pushes import EPOCH, PLAYLIST, pages, playlist, push_of, text_of
from tests.support.servers.worker import Worker, running_worker
from tests.support.waiting import eventually

LAST, SERIAL = 5, 5  # of the view that the Worker has
NEXT = SERIAL + 1
MEBIBYTE = 2**20
BOMB = length.seconds(1024, 64) * MEBIBYTE  # bytes, unpacked
PACKED = {"Content-Encoding": "gzip"}
EVERY = length.seconds(1, 10)  # one of so many hostile requests
NO_REQUEST = re.compile(r"kj/compat/(url|http)\.|CONNECT on a worker")  # what never reaches a Worker
PUSHED = "/origin/v1/view"

REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "a replay": (push_of(SERIAL, LAST + 9), 200),
    "an earlier number": (push_of(SERIAL - 1, LAST + 9), 200),
    "an earlier whole view": (push_of(SERIAL - 1, LAST + 9, base=None), 200),
    "an earlier epoch": (push_of(NEXT, LAST + 9, epoch=EPOCH - 1, base=None), 409),
    "an earlier epoch on ours": (push_of(NEXT, LAST + 9, epoch=EPOCH - 1), 409),
    "a base of later": (push_of(NEXT, LAST + 9, base=NEXT), 409),
    "a base of another epoch": (push_of(NEXT, LAST + 9, epoch=EPOCH + 1), 409),
    "a number that falls": (push_of(NEXT, LAST - 1), 422),
    "a number that falls in a whole view": (push_of(NEXT, LAST - 1, base=None), 422),
    "a number that falls in a later epoch": (push_of(1, LAST - 1, epoch=EPOCH + 1), 422),
    "another version": (push_of(NEXT, LAST + 1, v=7), 400),
    "a version that is text": (push_of(NEXT, LAST + 1, v="1"), 400),
    "an epoch that is text": (push_of(NEXT, LAST + 1, epoch=str(EPOCH)), 400),
    "no texts": (push_of(NEXT, LAST + 1, texts=None), 400),
    "a text without pieces": (push_of(NEXT, LAST + 1, texts={PLAYLIST: {"last": LAST + 1}}), 400),
    "a text that is a number": (push_of(NEXT, LAST + 1, texts={PLAYLIST: 5}), 400),
    "a piece of nothing": (push_of(NEXT, LAST + 1, texts={"new": {"ops": [[0, 5]]}}), 400),
    "events that are a number": (push_of(NEXT, LAST + 1, events=5), 400),
    "segments that are text": (push_of(NEXT, LAST + 1, segments="x"), 400),
    "no state": (push_of(NEXT, LAST + 1, state=None), 400),
    "too many texts": (
        push_of(NEXT, LAST + 1, texts={str(check): {"ops": ["x"]} for check in range(2001)}),
        413,
    ),
}


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A Worker that has pages, and five versions of a playlist."""
    async with running_worker(tmp_path) as worker:
        async with worker.client() as client:
            for number in range(1, SERIAL + 1):
                push = push_of(number, number)
                push["texts"] |= pages() if number == 1 else {}
                assert (await client.push(encode(push))).is_taken
        yield worker


async def seen(worker: Worker) -> list[object]:
    """All answers to viewers and to the service, without times and the serials that rise with them."""
    async with aiohttp.ClientSession() as session, worker.client() as client:
        found: list[object] = []
        for path in (PLAYLIST, "live/events/now", "live/segments/now"):
            async with session.get(f"{worker.address}/{path}") as response:
                content = await response.text() if path == PLAYLIST else await response.json()
            if isinstance(content, dict):
                content = {name: value for name, value in content.items() if name not in {"now", "serial"}}
                content.pop("state", {}).pop("now", None)
            found.append(content)
        status = (await client.status()).status
        return [*found, status.epoch, status.serial]


def bomb() -> bytes:
    """So many zeros in gzip."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(BOMB // MEBIBYTE)) + packer.flush()


def bodies() -> dict[str, tuple[bytes, dict[str, str], int]]:
    """Bodies that are no push, by what they are: with their headers, and the status of the answer."""
    large = b"x" * 10 * MEBIBYTE
    text = encode(push_of(NEXT, LAST + 1))
    return {
        "10 MB": (large, {}, 413),
        "10 MB that are said to be packed": (large, PACKED, 413),
        "a bomb": (bomb(), PACKED, 413),
        "a push that ends early": (text[:-20], PACKED, 413),
        "a push that is not packed as said": (gzip.decompress(text), PACKED, 413),
        "a push that is packed and not said to be": (text, {}, 400),
        "nothing": (b"", {}, 400),
        "null": (b"null", {}, 400),
        "a list": (b"[]", {}, 400),
        "brackets": (b"[" * 100_000, {}, 400),
        "no text": (b"\xff\xfe\x00", {}, 400),
    }


async def sent(client: EdgeClient, body: bytes, headers: dict[str, str]) -> int:
    """The status of a push."""
    return (await client.request("PUT", PUSHED, body, headers))[0]


@pytest.mark.takes(10)
async def test_what_is_no_push_changes_nothing(worker: Worker) -> None:
    """Replays, old epochs, falling numbers, large bodies, bombs: refused, not stored, nobody wakes."""
    before = await seen(worker)
    async with worker.client() as client, aiohttp.ClientSession() as session:
        listening = asyncio.create_task(events_until(session, worker.address, LAST + 1))
        playing = asyncio.create_task(played(session, worker.address, LAST + 1))
        await eventually(client.status, lambda found: found.status.held == 2)
        for what, (push, status) in REFUSED.items():
            assert (what, await sent(client, encode(push), PACKED)) == (what, status)
            assert await seen(worker) == before, what
        for what, (body, headers, status) in bodies().items():
            assert (what, await sent(client, body, headers)) == (what, status)
            assert await seen(worker) == before, what
        assert await sent(client, encode(push_of(NEXT, LAST + 1)), PACKED) == 200
        assert await listening == [["title", {"title": f"number {LAST + 1}"}]]
        assert await playing == playlist(LAST + 1)


async def events_until(session: aiohttp.ClientSession, address: str, number: int) -> list[list[Any]]:
    """All events for a page, without times, until the event of a number."""
    events: list[list[Any]] = []
    serial: object = "now"
    while ["title", {"title": f"number {number}"}] not in events:
        status, text = await get(session, f"{address}/live/events/{serial}")
        assert status == 200
        serial = (answer := json.loads(text))["serial"]
        events += [event for event in answer["events"] if event[0] != "time"]
    return events


async def played(session: aiohttp.ClientSession, address: str, number: int) -> str:
    """The playlist of a player that waits for a number; 503 tells it to ask again."""
    while True:
        status, text = await get(session, f"{address}/{PLAYLIST}?_HLS_msn={number}")
        assert status in {200, 503}
        if status == 200:
            return text


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as response:
        return response.status, await response.text()


async def test_a_wrong_key_changes_nothing(worker: Worker) -> None:
    """Whatever is sent with no key or a wrong one is answered 401, also 10 MB; the key before is taken."""
    before = await seen(worker)
    key = worker.key
    wrong = ("", "Bearer", "Bearer ", f"Bearer {key[:-1]}", f"Bearer {key}x", f"Basic {key}", key)
    async with aiohttp.ClientSession() as session:
        for number, authorization in enumerate((*wrong, f"Bearer {'k' * 43}", f"Bearer {key.lower()}")):
            for body in (encode(push_of(NEXT, LAST + 1)), b"x" * 10 * MEBIBYTE):
                headers = {**PACKED, **({"Authorization": authorization} if number else {})}
                url = f"{worker.address}{PUSHED}"
                async with session.put(url, data=io.BytesIO(body), headers=headers) as response:
                    assert response.status == 401, authorization
            for method, path in (("GET", ""), ("GET", "/health"), ("DELETE", "")):
                url = f"{worker.address}{PUSHED}{path}"
                async with session.request(method, url, headers={"Authorization": authorization}) as response:
                    assert (response.status, await response.read()) == (401, b""), authorization
    assert await seen(worker) == before
    async with worker.client(key[::-1]) as client:
        assert (await client.push(encode(push_of(NEXT, LAST + 1)))).is_taken


@pytest.mark.parametrize(("has_key", "answer"), [(True, b"413"), (False, b"401")])
async def test_who_sends_too_much_is_answered(worker: Worker, has_key: bool, answer: bytes) -> None:  # noqa: FBT001
    """A client that reads only once it has sent 10 MB sees why it is refused, and not a reset."""
    size, chunk = 10 * MEBIBYTE, b"x" * 65_536
    key = worker.key if has_key else "k" * 43
    reader, writer = await asyncio.open_connection("127.0.0.1", int(worker.address.rpartition(":")[2]))
    with contextlib.closing(writer):
        head = (
            f"PUT {PUSHED} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {size}\r\n"
        )
        writer.write(f"{head}\r\n".encode())
        for _ in range(size // len(chunk)):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0.001)  # the Worker has time to answer too early
        assert (await reader.readline()).startswith(b"HTTP/1.1 " + answer)


async def test_a_number_does_not_fall_by_a_way_round(worker: Worker) -> None:
    """A playlist that was removed comes back with higher numbers alone."""
    async with worker.client() as client:
        assert (await client.push(encode(push_of(NEXT, 0, texts={PLAYLIST: None})))).is_taken
        for push in (push_of(NEXT + 1, LAST - 1), push_of(NEXT + 1, LAST - 1, base=None)):
            assert await sent(client, encode(push), PACKED) == 422
        assert (await client.push(encode(push_of(NEXT + 1, LAST)))).is_taken


async def test_the_largest_push(worker: Worker) -> None:
    """A push of the size that service and Worker agree on is taken; one byte more is not."""
    push = push_of(NEXT, LAST + 1, texts={PLAYLIST: text_of(LAST + 1), "x": {"ops": [""]}})
    room = MAX_PUSH - len(json.dumps(push).encode())
    async with worker.client() as client:
        for more, status in ((1, 413), (0, 200)):
            push["texts"]["x"]["ops"] = ["x" * (room + more)]
            assert await sent(client, json.dumps(push).encode(), {}) == status


async def test_one_address_cannot_crowd_out_reports(worker: Worker) -> None:
    """One address may send as many reports as at the service, 25 a second; those of others are taken."""

    async def report(address: str) -> int:
        body, headers = json.dumps({"seconds": 1}), {"CF-Connecting-IP": address}
        async with session.post(f"{worker.address}/live/beacon", data=body, headers=headers) as response:
            return response.status

    async with aiohttp.ClientSession() as session, worker.client() as client:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        flood = await asyncio.gather(*(report("192.0.2.1") for _ in range(900)))
        allowed = 500 + 25 * (loop.time() - begun)
        assert 500 <= flood.count(204) <= allowed + 1
        assert set(flood) == {204, 429}
        assert await report("192.0.2.2") == 204
        reports = (await client.push(encode(push_of(NEXT, LAST + 1)))).status.reports
        assert len(reports) == flood.count(204) + 1
        assert reports[-1] == ("192.0.2.2", '{"seconds": 1}')


def by_workerd(status: int, _: bytes) -> bool:
    """Whether workerd may have answered so without the Worker: its log says why it did."""
    return status in {500, 501}


@pytest.mark.takes(10)
async def test_a_hostile_crawl_of_the_worker(worker: Worker) -> None:
    """Two thousand hostile requests: no error of the Worker, nothing stored, no event for pages."""
    assert sum(1 for _ in hostile_requests()) >= 2000
    before = await seen(worker)
    statuses = await crawl(int(worker.address.rpartition(":")[2]), EVERY, by_workerd)
    print(f"statuses {dict(sorted(statuses.items()))}")
    failures = [line for line in worker.log.read_text().splitlines() if "Uncaught" in line]
    assert [line for line in failures if not NO_REQUEST.search(line)] == []
    assert await seen(worker) == before
    async with worker.client() as client:
        assert (await client.push(encode(push_of(NEXT, LAST + 1)))).status.reports == ()
