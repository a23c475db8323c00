"""A private event of a running service: closed without the passphrase, and without names to guess."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broadcaster.cli import guest_origin
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import find_program
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from broadcaster.own_files import VIEWER_DIR
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.judges.gate_cases import UNGUESSABLE
from tests.support.judges.timing import take_as_long
from tests.support.length import SOAK, seconds
from tests.support.servers.edge import running_edge
from tests.support.servers.relay import relaying
from tests.support.servers.service import Service, running_service
from tests.support.servers.shared_bucket import client_of
from tests.support.servers.worker import running_worker
from tests.support.waiting import PATIENCE, eventually

WORDS = "a passphrase of some words"
SETTINGS = {
    "BROADCASTER_ACCESS": "passphrase",
    "BROADCASTER_RECORDINGS": "keep",
    "BROADCASTER_VIEWER_CLIPS": "true",
    "BROADCASTER_END_GRACE_SECONDS": "3",
}

POSTER = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNQUFABAADIAGXsvhdoAAAAAElFTkSuQmCC"
EVENT = {
    "performer": "The Trio",
    "startsAt": "2026-12-24T20:00:00+01:00",
    "posterBlur": f"data:image/png;base64,{POSTER}",
}

REHEARSAL = {
    "BROADCASTER_DOORS": "closed",
    "BROADCASTER_END_GRACE_SECONDS": "300",
    "BROADCASTER_WINDOW_SEGMENTS": "60",
}


async def enter(address: str, text: str = WORDS) -> str | None:
    """The path that the passphrase opens."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{address}/access",
            data={"passphrase": text},
            headers={"Accept": "application/json"},
        ) as response,
    ):
        return str((await response.json())["path"]) if response.status == 200 else None


async def read(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as response:
        return response.status, await response.text(errors="replace")


async def set_passphrase(service: Service, text: str) -> str:
    """The command, as the operator gives it."""
    ran = await asyncio.to_thread(
        subprocess.run,
        [find_program("broadcaster"), "passphrase"],
        env=service.environment,
        input=f"{text}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


async def keys(bucket: SeaweedBucket) -> list[str]:
    async with client_of(bucket) as client:
        found = await client.list_objects_v2(Bucket=bucket.bucket)
        return [entry["Key"] for entry in found.get("Contents", [])]


async def open_and_close(service: Service, name: str) -> None:
    """While a recording is opened, strangers have its page, without anything of the stream on it."""
    page = f"{service.address}/watch/{name}"
    for command, expected in (("open", 200), ("close", 401)):
        said = json.loads(await asyncio.to_thread(run, service, "recordings", command, name))
        assert said["open"] is (command == "open")
        _, text = await eventually(lambda: read(page), lambda found: found[0] == expected)  # noqa: B023
        assert (f"recordings/{name}/playlist.m3u8" in text) is (command == "open")
        assert "/live/events" not in text


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_worker_private has the passphrase")
@pytest.mark.takes(10)
async def test_from_the_passphrase_to_the_recording(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Nobody watches before the passphrase is set; who knows it does; every key in the bucket is random."""
    hls = tmp_path / "hls"
    variants = [HlsWriter(hls / name) for name in ("0", "1")]
    gate_file = tmp_path / "gate.json"
    settings = SETTINGS | {"BROADCASTER_GATE_FILE": str(gate_file)}
    async with running_service(tmp_path, hls, bucket, **settings) as service:

        def grants() -> list[str]:
            return [*json.loads(gate_file.read_text())["grants"]]

        await eventually(gate_file.is_file)
        assert grants() == []
        assert gate_file.stat().st_mode & 0o777 == 0o640
        for writer in variants:
            writer.write(range(6))
        await service.until_health(manifestChunks=12)
        assert await enter(service.address) is None
        assert "is set" in await set_passphrase(service, WORDS)
        path = await enter(service.address)
        assert path
        first = await eventually(grants)
        assert await enter(service.address, WORDS + "!") is None
        base = f"{service.address}{path}live/"
        main = parse((await read(f"{base}playlist.m3u8"))[1])
        names = (
            [variant.uri for variant in main.variants]
            if isinstance(main, MultivariantPlaylist)
            else ["playlist.m3u8"]
        )
        for name in names:
            status, text = await read(base + name)
            media = parse(text)
            assert isinstance(media, MediaPlaylist)
            for segment in media.segments:
                assert segment.uri
                assert (await read(segment.uri))[0] == 200
        assert (await read(f"{service.address}/live/playlist.m3u8"))[0] == 401
        await service.until_health(stream="ended")

        async def recording() -> list[str]:
            return [key for key in await keys(bucket) if key.endswith("recording.json")]

        await eventually(recording)
        status, text = await read(f"{service.address}{path}recordings/newest.json")
        assert status == 200
        assert bucket.public_url in text
        assert (await read(f"{service.address}/recordings/newest.json"))[0] == 401
        (name,) = [entry["id"] for entry in json.loads(text)["recordings"]]
        await open_and_close(service, name)
        found = await keys(bucket)
        assert len(found) >= 15
        assert [key for key in found if not UNGUESSABLE.search(key)] == []
        assert len({key.partition("/")[2] for key in found}) == len(found)
        for query in ("", "/", "/?list-type=2", "?list-type=2&prefix=live"):
            assert (await read(bucket.public_url + query))[0] == 403, query
        await set_passphrase(service, "another passphrase")
        assert (await read(f"{base}playlist.m3u8"))[0] == 401
        await eventually(lambda: grants() != first, within=seconds(2, int(PATIENCE)))
    log = service.log.read_text()
    assert "Traceback" not in log
    assert WORDS not in log
    assert path.split("/")[2] not in log


async def test_a_restart_keeps_guests_and_names(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """After a kill tokens are still valid, and what waits in the spool gets the name that it had."""
    hls = tmp_path / "hls"
    writer = HlsWriter(hls / "0")
    settings = SETTINGS | {"BROADCASTER_END_GRACE_SECONDS": "300"}
    async with running_service(tmp_path, hls, bucket, **settings) as service:
        writer.write(range(4))
        await service.until_health(manifestChunks=4)
        await set_passphrase(service, WORDS)
        path = await enter(service.address)
        await service.kill()
        writer.write(range(4, 8))
        await service.start()
        url = f"{service.address}{path}live/playlist.m3u8"
        await eventually(lambda: read(url), lambda found: found[1].count("#EXTINF") >= 8)
        assert [key for key in await keys(bucket) if not UNGUESSABLE.search(key)] == []


@pytest.mark.parametrize(
    "setting",
    [
        {"BROADCASTER_MIRROR": "true"},
        {"BROADCASTER_TRACKER_URL": "wss://tracker.example"},
    ],
)
async def test_what_has_no_gate_is_refused(
    tmp_path: Path, bucket: SeaweedBucket, setting: dict[str, str]
) -> None:
    """The service does not start with a way past its gate, and says what to do."""
    service = Service(tmp_path, tmp_path / "hls", bucket, **SETTINGS, **setting)
    ran = await asyncio.to_thread(
        subprocess.run, service.command, env=service.environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert next(iter(setting)) in ran.stderr
    assert "BROADCASTER_ACCESS=public" in ran.stderr


def run(service: Service, *arguments: str) -> str:
    """What a command says, as the operator gives it."""
    ran = subprocess.run(
        [find_program("broadcaster"), *arguments],
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


async def say_nothing_of(token: str, service: Service) -> None:
    """Assert that errors for another guest, metrics and health do not name a guest's token."""
    stranger = f"{service.address}/t/{token[:-1]}x"
    for wrong in (f"{service.address}/t/{token}/no/such", f"{stranger}/", f"{stranger}/live/events/1"):
        assert (await read(wrong))[0] in {401, 404}
    for shown in ("/metrics", "/health"):
        status, text = await read(f"{service.admin_address}{shown}")
        assert (status, token[:-1] in text) == (200, False)
    assert token[:-1] not in service.log.read_text()


@pytest.mark.takes(8)
async def test_from_an_invitation_to_its_end(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A link opens the page and becomes a cookie; it is counted, and nothing opens when it is revoked."""
    hls = tmp_path / "hls"
    settings = SETTINGS | {"BROADCASTER_ACCESS": "invitation"}
    async with running_service(tmp_path, hls, bucket, **settings) as service:
        HlsWriter(hls / "0").write(range(4))
        await service.until_health(manifestChunks=4)
        code = tmp_path / "code.png"
        words = ("invite", "--name", "Aunt Rose", "--until", "2099-12-24", "--json", "--qr", str(code))
        made = json.loads(await asyncio.to_thread(run, service, *words))
        assert made["link"] == service.address + made["path"]
        assert code.read_bytes().startswith(b"\x89PNG")
        other = json.loads(await asyncio.to_thread(run, service, "invite", "--name", "Uncle Ben", "--json"))
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers={"Accept": "text/html"}) as session:
            async with session.get(URL(made["link"], encoded=True)) as page:
                assert page.status == 200
                assert page.url == URL(f"{service.address}/")
            async with session.get(f"{service.address}/live/playlist.m3u8") as playlist:
                assert (await playlist.text()).count("#EXTINF") == 4
            listed = await eventually(
                lambda: asyncio.to_thread(run, service, "invitations", "list"),
                lambda text: "opened 1, watching 0  Aunt Rose" in text,
            )
            name = listed.split()[0]
            assert "revoked" in await asyncio.to_thread(run, service, "invitations", "revoke", name)
            async with session.get(f"{service.address}/live/playlist.m3u8") as playlist:
                assert playlist.status == 401
            async with session.get(URL(made["link"], encoded=True)) as page:
                assert page.status == 401
                assert "Your access is over" in await page.text()
        async with relaying(guest_origin(service.address + other["path"])) as relayed:
            assert len((await relayed.until_last(3)).segments) == 4
            assert (await relayed.health())["http"] == 200
            token = other["path"].split("/")[2]
            for shown in ("/", "/config.json", "/live/playlist.m3u8", "/live/events/now", "/health"):
                assert token.encode() not in (await relayed.get(shown))[1]
        await say_nothing_of(token, service)
        path = f"{service.address}{other['path']}live/playlist.m3u8"
        assert (await read(path))[0] == 200
        await service.kill()
        await service.start()
        assert (await eventually(lambda: read(path), lambda found: found[0] == 200))[1].count("#EXTINF") == 4
        assert "Aunt Rose" not in await asyncio.to_thread(run, service, "invitations", "list")
    log = service.log.read_text()
    assert "Traceback" not in log
    assert made["path"].split("/")[2] not in log


async def path_of(service: Service, *arguments: str) -> str:
    """The path that a new invitation opens."""
    said = await asyncio.to_thread(run, service, "invite", "--name", "A guest", "--json", *arguments)
    return str(json.loads(said)["path"])


PATHS = (
    *("", "config.json", "recordings", "recordings/newest.json", "live/events/now", "live/segments/now"),
    *(f"live/{name}.m3u8" for name in ("playlist", "0/playlist", "0/iframes", "0/kept", "1/playlist")),
)
NAME = re.compile(r"[0-9a-f]{32}-|\d{4}-\d\d-\d\d-\d{4}-[a-z2-9]{26,}")  # of an object, a recording, a clip


async def names_at(begin: str, more: Iterable[str] = ()) -> set[str]:
    """The names of objects, recordings and clips that the holder of a path finds."""
    texts = await asyncio.gather(*(read(begin + path) for path in (*PATHS, *more)))
    return {name for _, text in texts for name in NAME.findall(text)}


async def seen_by_crew(begins: Iterable[str], more: Iterable[str]) -> set[str]:
    """The names that the crew finds at all gates, whose caches have them then."""
    found = set[str]()
    for begin in begins:
        found |= await eventually(partial(names_at, begin, more), lambda names: len(names) > 8)
    return found


async def find_none_of(hidden: set[str], begin: str, more: Iterable[str]) -> None:
    """Assert that a guest finds what is on, and nothing of before, also not by the crew's addresses."""
    await eventually(lambda: read(f"{begin}live/0/playlist.m3u8"), lambda found: "#EXTINF" in found[1])
    found = await names_at(begin, more)
    assert len(found) > 3, begin
    assert found & hidden == set(), begin
    for path in more:
        assert path.startswith("live/") or (await read(begin + path))[0] == 404, begin + path


async def clip_at(begin: str, when: float | None = None) -> int:
    """The answer to a request for a clip of the last seconds, or of those before a time."""
    now = round(1000 * (when or time.time()))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{begin}live/clips", json={"begin": now - 6000, "end": now}) as response,
    ):
        return response.status


async def close_again(service: Service, crew: str, guest: str, playlist: str) -> None:
    """Guests are shut out, also from the recording in the bucket, which they know, until it is kept."""
    await asyncio.to_thread(run, service, "doors", "closed")
    assert await eventually(lambda: read(f"{guest}live/playlist.m3u8"), lambda found: found[0] == 401)
    async with (
        aiohttp.ClientSession(headers={"Accept": "text/html"}) as session,
        session.get(URL(guest, encoded=True)) as page,
    ):
        assert "The doors are still closed" in await page.text()
        assert page.headers["Refresh"] == "2"
    assert (await read(f"{crew}live/playlist.m3u8"))[0] == 200
    await eventually(lambda: read(playlist), lambda found: found[0] == 404)
    await asyncio.to_thread(run, service, "doors", "open", "--keep")
    await eventually(lambda: read(playlist), lambda found: found[0] == 200)


def page_in(folder: Path) -> dict[str, str]:
    """The setting of a page for the event."""
    page = folder / "page"
    shutil.copytree(VIEWER_DIR, page)
    (page / "config.json").write_text(json.dumps(EVENT))
    return {"BROADCASTER_VIEWER_DIR": str(page)}


async def check_asking(gates: Iterable[str], closed: str) -> None:
    """Strangers, and guests before closed doors, see the same page at each gate, under the same policy."""

    async def page_of(address: str) -> tuple[int, str, str]:
        async with (
            aiohttp.ClientSession(headers={"Accept": "text/html", "Accept-Language": "de"}) as session,
            session.get(URL(address, encoded=True)) as page,
        ):
            return page.status, await page.text(), page.headers["Content-Security-Policy"]

    for path, texts in {"/": ("<form",), closed: ("Die Türen sind noch geschlossen.",)}.items():
        first, *others = [await page_of(gate + path) for gate in gates]
        assert first[0] == 401
        assert [text for text in (*EVENT.values(), *texts) if text not in first[1]] == []
        assert others == [first] * len(others)


async def first_found(guest: str) -> list[dict[str, object]]:
    """The recordings that the first guest finds, as soon as the doors open."""
    _, text = await eventually(lambda: read(f"{guest}recordings/newest.json"), lambda found: found[0] == 200)
    return list(json.loads(text)["recordings"])


@pytest.mark.takes(30)
async def test_doors(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Closed doors let the crew in alone; when they open, guests find nothing of the rehearsal anywhere."""
    hls, gate_file = tmp_path / "hls", tmp_path / "gate.json"
    settings = SETTINGS | REHEARSAL | {"BROADCASTER_GATE_FILE": str(gate_file)} | page_in(tmp_path)
    async with (
        running_worker(tmp_path) as worker,
        running_service(tmp_path, hls, bucket, **settings, **worker.settings) as service,
        running_edge(tmp_path, service.address, gate_file=gate_file) as edge,
    ):
        writers = [HlsWriter(hls / name) for name in ("0", "1")]
        for writer in writers:
            writer.seconds, writer.start = 1.0, datetime.now(UTC)

        async def bring(numbers: Iterable[int]) -> None:
            for number in numbers:
                for writer in writers:
                    writer.segment(number)
                    writer.playlist(range(max(0, number - 4), number + 1))
                await asyncio.sleep(1)  # an encoder's pace

        await bring(range(5))
        await service.until_health(manifestChunks=10)
        gates = [service.address, edge.address, worker.address]
        path_of_crew, path_of_guest = await path_of(service, "--crew"), await path_of(service)
        crew, guest = service.address + path_of_crew, service.address + path_of_guest
        assert (await read(f"{guest}live/playlist.m3u8"))[0] == 401
        await check_asking(gates, path_of_guest)
        serial, event = [
            json.loads((await read(f"{crew}live/{path}/now"))[1])["serial"] - ago
            for path, ago in (("segments", 4), ("events", 1))
        ]
        (rehearsal,) = json.loads((await read(f"{crew}recordings/newest.json"))[1])["recordings"]
        before = {f"live/segments/{serial}", f"live/events/{event}"}
        before |= {f"watch/{rehearsal['id']}", f"recordings/{rehearsal['id']}.json"}
        hidden = await seen_by_crew([gate + path_of_crew for gate in gates], before)
        assert rehearsal["id"] in hidden
        assert await clip_at(crew) == 409
        coming = asyncio.create_task(bring(itertools.count(5)))
        asked = time.time()
        opening = asyncio.create_task(asyncio.to_thread(run, service, "doors", "open"))
        assert await first_found(guest) == []
        await opening
        said = time.time()
        await eventually(lambda: read(f"{guest}config.json"), lambda found: found[0] == 200)
        print(f"doors: a guest got in {time.time() - said:.2f} s after a command of {said - asked:.1f} s")
        paths = ("live/0/playlist.m3u8", "live/0/kept.m3u8", "live/segments/now", f"live/segments/{serial}")
        seen = set[int]()

        async def look() -> int:
            for path in paths:
                seen.update(numbers_in((await read(guest + path))[1]))
            return len(seen)

        await eventually(look, lambda count: count >= 4)  # segments: the window still has the first one
        for gate in gates:
            await find_none_of(hidden, gate + path_of_guest, before)
        assert await clip_at(guest, asked) == 409
        coming.cancel()
        begun = {number: (hls / "0" / writers[0].name(number)).stat().st_mtime - 1 for number in seen}
        assert [number for number in seen if begun[number] < asked] == []
        (known,) = json.loads((await read(f"{guest}recordings/newest.json"))[1])["recordings"]
        _, listed = await read(f"{guest}{paths[0]}")
        await service.kill()
        await service.start()
        _, text = await eventually(lambda: read(f"{guest}{paths[0]}"), lambda found: "#EXTINF" in found[1])
        assert min(numbers_in(text)) == min(numbers_in(listed))
        await close_again(service, crew, guest, known["parts"][0])
    assert "Traceback" not in service.log.read_text()


def numbers_in(text: str) -> list[int]:
    """The numbers of the segments that a text names."""
    return list(map(int, re.findall(r"-(\d+)\.ts", text)))


@dataclass
class Strangers:
    """Strangers who type passphrases at an address; ``header`` says which client network each is of."""

    address: str
    header: str
    session: aiohttp.ClientSession

    async def give(self, text: str, network: str) -> tuple[int, float]:
        """The status of the answer, and after how many seconds it came."""
        headers, begun = {self.header: network, "Accept": "application/json"}, time.monotonic()
        url, data = f"{self.address}/access", {"passphrase": text}
        async with self.session.post(url, data=data, headers=headers) as answer:
            await answer.read()
        return answer.status, time.monotonic() - begun

    async def enter(self) -> float:
        """After how many seconds the right passphrase has opened the event."""
        status, took = await self.give(WORDS, "10.2.0.1")
        assert status == 200
        assert took < 5 or not SOAK
        return took


def networks(count: int, block: int = 1) -> list[str]:
    """So many addresses."""
    return [f"10.{block}.{number // 250}.{number % 250 + 1}" for number in range(count)]


async def check_flood(address: str, header: str, *, at_once: int) -> None:
    """Assert that no flood keeps out who knows the passphrase; an address has ten tries a minute."""
    tries = seconds(1000, 150)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once, keepalive_timeout=2)) as session,
        aiohttp.ClientSession() as own,
    ):
        strangers, guest = Strangers(address, header, session), Strangers(address, header, own)
        many = networks(tries)
        flood = asyncio.gather(
            *(strangers.give(f"wrong {number}", network) for number, network in enumerate(many))
        )
        times = [await guest.enter()]
        while not flood.done():
            times.append(await guest.enter())
            await asyncio.sleep(0.5)
        looked_at = Counter(status for status, _ in await flood)
        assert set(looked_at) <= {401, 429}
        begun = time.monotonic()
        guesses = asyncio.gather(*(strangers.give("wrong", "10.3.0.1") for _ in many))
        times.append(await guest.enter())
        found = Counter(status for status, _ in await guesses)
        minutes = (time.monotonic() - begun) / 60
        assert 5 <= found[401] <= 5 + 5 * math.ceil(minutes)
        assert set(found) == {401, 429}
        times.append(await guest.enter())
        print(
            f"{tries} wrong passphrases, from as many addresses: {dict(looked_at)}, from one: {dict(found)};"
            f" the right one took {max(times):.2f} s at most, of {len(times)} times"
        )
        if SOAK:
            wrong = {"one letter off": (WORDS[:-1] + "x", 4), "all letters off": ("x" * len(WORDS), 5)}

            async def guess(text: str, block: int, number: int) -> None:
                await strangers.give(text, networks(1000, block)[number])

            ways = {name: partial(guess, *way) for name, way in wrong.items()}
            await take_as_long(ways, at_once=40)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit/access has floods")
@pytest.mark.takes(15)
async def test_a_flood_of_wrong_passphrases(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """An address has ten tries a minute; no flood keeps out who knows the passphrase."""
    settings = SETTINGS | {"BROADCASTER_TRUSTED_HEADER": "x-forwarded-for"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        await set_passphrase(service, WORDS)
        await service.kill()
        await service.start()
        await check_flood(service.address, "X-Forwarded-For", at_once=40)
