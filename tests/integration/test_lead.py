"""Two services under one prefix, frozen, killed and cut off: one leader writes into the bucket, in order."""

import asyncio
import json
import posixpath
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from broadcaster.bucket import Bucket, open_store
from broadcaster.bucket.lease import MARGIN
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist, parse
from broadcaster.upload import deleter
from tests.integration.test_private_event import check_flood, set_passphrase
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.faults.fault_proxy import Fault, FaultProxy
from tests.support.length import SOAK, seconds
from tests.support.servers.service import Service
from tests.support.servers.worker import Worker, running_worker
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

TTL = seconds(3, 8)  # longer than a busy machine pauses
CUTS = (Fault.HANG, Fault.REFUSE, Fault.RESET, Fault.LATE, Fault.UNAVAILABLE)
EVERY, TARGET_DURATION = 0.5, 2  # seconds, of the encoder's clock and of its media
LISTED = 6  # segments in the encoder's playlist
LONG = 20_000  # segments of a recording
SETTINGS = {
    "BROADCASTER_STANDBY": "true",
    "BROADCASTER_MIRROR": "true",
    "BROADCASTER_RECORDINGS": "keep",
    "BROADCASTER_LEASE_SECONDS": str(TTL),
}


WORDS = "a passphrase of some words"
PRIVATE = {
    "BROADCASTER_STANDBY": "true",
    "BROADCASTER_LEASE_SECONDS": str(TTL),
    "BROADCASTER_ACCESS": "passphrase",
    "BROADCASTER_ACCESS_SECRET": "of-both-broadcasters-and-nobody-else",
}


@dataclass
class Watch:
    """What somebody sees who knows the bucket alone."""

    leases: list[int] = field(default_factory=list)  # epochs, in order
    held_live = (
        False  # whether the newest lease is of a leader that is live, which others wait for only seconds
    )
    epochs: list[int] = field(default_factory=list)  # of the playlist
    segments: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    numbers: dict[int, str] = field(default_factory=dict)  # each media sequence number, and its address
    first, discontinuity = 0, 0  # the highest media sequence, and the highest number of a last segment
    violations: list[str] = field(default_factory=list)
    longest: float = 0.0  # seconds without a new segment, in this episode
    stalls: list[tuple[float, str]] = field(default_factory=list)  # the longest of each episode, and its kind
    since: float | None = None  # the newest segment (monotonic)

    def has_more(self, epochs: int) -> bool:
        return len(set(self.epochs)) > epochs

    def end_episode(self, kind: str) -> None:
        """Note its longest time without a new segment, and begin another one."""
        self.stalls.append((self.longest, kind))
        print(f"{self.longest:.1f} s without a new segment in the {type(self).__name__} ({kind})", flush=True)
        self.longest = 0.0

    def has_newest_run(self, found: list[str]) -> bool:
        """Whether a recording has segments of the run that is listed now."""
        return self.numbers[max(self.numbers)].rsplit("/", 2)[0] in {uri.rsplit("/", 2)[0] for uri in found}

    def of_newest_run(self) -> list[str]:
        """The addresses of the run that is listed now."""
        run = self.numbers[max(self.numbers)].rsplit("/", 2)[0]
        return [uri for uri in self.numbers.values() if uri.rsplit("/", 2)[0] == run]

    async def run(self, bucket: SeaweedBucket) -> None:
        address = f"{bucket.public_url}/live/playlist.m3u8"
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{bucket.public_url}/live/owner.json") as response:
                    if response.status == 200:
                        lease = json.loads(await response.read())
                        self.leases.append(lease["epoch"])
                        self.held_live = lease["ttl"] == TTL
                async with session.get(address) as response:
                    if response.status == 200:
                        self.epochs.append(int(response.headers["x-amz-meta-epoch"]))
                        playlist = parse(await response.text())
                        assert isinstance(playlist, MediaPlaylist)
                        uris = [urljoin(address, segment.uri) for segment in playlist.segments]
                        self.note(playlist, uris)
                        await self.look_at(session, uris)
                await asyncio.sleep(0.1)

    def note(self, playlist: MediaPlaylist, uris: list[str]) -> None:
        """Note whether numbers go on: each has one address, and none falls."""
        last = playlist.discontinuity_sequence + sum(segment.discontinuity for segment in playlist.segments)
        newest, reached = max(self.numbers, default=0), (self.first, self.discontinuity)
        self.first, self.discontinuity = playlist.media_sequence, last
        if min(self.first - reached[0], last - reached[1]) < 0:
            self.violations.append(f"{reached} fall to {self.first, last}")
        for number, uri in enumerate(uris, playlist.media_sequence):
            if self.numbers.setdefault(number, uri) != uri:
                self.violations.append(f"{number} means {uri} and {self.numbers[number]}")
        if max(self.numbers) > newest:
            now = time.monotonic()
            self.longest, self.since = max(self.longest, now - (self.since or now)), now

    async def look_at(self, session: aiohttp.ClientSession, found: list[str]) -> None:
        for uri in found:
            if uri not in self.segments:
                async with session.head(uri) as response:
                    self.segments.add(uri)
                    if response.status != 200:
                        self.missing.append(uri)


@dataclass
class Player(Watch):
    """What a player sees that asks one service and the other, as through a load balancer."""

    newest: Counter[str] = field(default_factory=Counter)  # number of the last answer, by address
    refused: Counter[str] = field(default_factory=Counter)  # connections

    async def play(self, *services: Service) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while True:
                for service in services:
                    try:
                        await self.ask(session, service.address)
                    except aiohttp.ClientConnectorError:
                        self.refused[service.address] += 1
                    except (aiohttp.ClientError, TimeoutError):  # frozen, or killed in mid-answer
                        continue
                await asyncio.sleep(0.1)

    async def until(self, address: str, number: int) -> int:
        """Wait until a service shows more than this number; returns what it shows."""
        return await eventually(lambda: self.newest[address], lambda newest: newest > number)

    async def ask(self, session: aiohttp.ClientSession, address: str) -> None:
        async with session.get(f"{address}/live/playlist.m3u8") as response:
            if response.status != 200:
                assert response.status in (503, 404)
                return
            playlist = parse(await response.text())
        assert isinstance(playlist, MediaPlaylist)
        self.note(playlist, [segment.uri for segment in playlist.segments])
        self.newest[address] = playlist.last


async def encode(writer: HlsWriter) -> None:
    """An encoder that is on until it is cancelled."""
    number = 0
    while True:
        writer.segment(number)
        number += 1
        writer.playlist(range(max(number - LISTED, 0), number))
        await asyncio.sleep(EVERY)


async def metric(service: Service, name: str) -> float:
    """The value of a metric, of all variants together; 0 without it, and of one that does not answer."""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session,
            session.get(f"{service.admin_address}/metrics") as response,
        ):
            families = text_string_to_metric_families(await response.text())
            samples = [sample for family in families for sample in family.samples]
            return sum(sample.value for sample in samples if sample.name == f"broadcaster_{name}")
    return 0


async def leads(service: Service) -> bool:
    """What the metric says; False of one that does not answer."""
    return await metric(service, "leader") == 1


@dataclass
class Link:
    """A service, and its way to the bucket."""

    service: Service
    proxy: FaultProxy
    writer: HlsWriter
    encoder: asyncio.Task[None]


@asynccontextmanager
async def two_services(
    tmp_path: Path, bucket: SeaweedBucket, settings: Mapping[str, str]
) -> AsyncIterator[list[Link]]:
    """Two services, each with an encoder, a state folder and a link to the bucket of its own."""
    port = int(bucket.endpoint_url.rpartition(":")[2])
    async with asyncio.TaskGroup() as group:
        folders = [tmp_path / "a", tmp_path / "b"]
        writers = [HlsWriter(folder / "hls", folder.name) for folder in folders]
        encoders = [group.create_task(encode(writer)) for writer in writers]
        async with AsyncExitStack() as stack:
            links = []
            for folder, writer, encoder in zip(folders, writers, encoders, strict=True):
                proxy = await stack.enter_async_context(FaultProxy(port))
                own = {**settings, "R2_ENDPOINT_URL": proxy.url}
                links.append(Link(Service(folder, folder / "hls", bucket, **own), proxy, writer, encoder))
            for link, other in (links, links[::-1]):
                link.service.environment["BROADCASTER_LEADER_URL"] = other.service.address
            for link in links:
                await link.service.start()
                stack.push_async_callback(link.service.stop)
            yield links
        for encoder in encoders:
            encoder.cancel()


async def disturb(kind: str, leader: Link, chance: random.Random) -> None:
    """Freeze or kill a leader, or cut it off from the bucket."""
    if kind == "kill":
        await leader.service.kill()
    elif kind == "freeze":
        suspend(leader.service.child)
    else:
        await leader.proxy.switch(chance.choice(CUTS))


async def come_back(kind: str, leader: Link) -> None:
    """End what was done to a former leader, and start it as a standby."""
    if kind == "freeze":
        resume(leader.service.child)
    elif kind == "cut":
        await leader.proxy.switch(Fault.NONE)
    await ended(leader.service)
    await leader.service.start()
    await eventually(leader.service.health, lambda health: str(health["warning"]).startswith("stands by"))


async def take_lead(links: list[Link], watch: Watch) -> None:
    """Move the lead by command."""
    leader = await eventually(partial(one_of, links))
    assert leader
    (standby,) = (link.service for link in links if link is not leader)
    before = len(set(watch.epochs))
    await standby.manage("lead")
    await eventually(partial(leads, standby))
    await eventually(partial(watch.has_more, before))
    assert await ended(leader.service) == 1
    await leader.service.start()


@pytest.mark.takes(45)
async def test_one_leads(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Whoever is frozen, killed or cut off, the other leads; who comes back changes nothing."""
    watch, player, chance = Watch(), Player(), random.Random(35)
    async with two_services(tmp_path, bucket, SETTINGS) as links:
        watching = asyncio.gather(watch.run(bucket), player.play(*(link.service for link in links)))
        (begun,) = await eventually(partial(recorded, bucket))
        for episode in range(seconds(100, 2)):
            leader = await eventually(partial(one_of, links))
            assert leader
            (other,) = (link.service for link in links if link is not leader)
            await eventually(lambda: watch.held_live)
            newest = await player.until(other.address, await player.until(leader.service.address, 0) - 1)
            before, refused = len(set(watch.epochs)), Counter(player.refused)
            kind = ("freeze", "kill", "cut")[episode % 3]
            await disturb(kind, leader, chance)
            await eventually(partial(leads, other))
            await eventually(partial(watch.has_more, before))
            await player.until(other.address, newest + MARGIN)
            assert player.refused[other.address] == refused[other.address]
            await asyncio.sleep(chance.uniform(0, seconds(10, 0)))
            await come_back(kind, leader)
            await eventually(partial(leads, other))
            for seen in (watch, player):
                seen.end_episode(kind)
        await take_lead(links, watch)
        player.end_episode("lead")
        (whole,) = await eventually(partial(recorded, bucket), lambda found: watch.has_newest_run(found[0]))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    async with aiohttp.ClientSession() as session:
        await watch.look_at(session, whole)
    assert (watch.leases, watch.epochs) == (sorted(watch.leases), sorted(watch.epochs))
    assert len(set(watch.epochs)) > seconds(100, 2)
    assert (watch.missing, watch.violations, player.violations) == ([], [], [])
    assert whole[: len(begun)] == begun
    if SOAK:
        lost = sorted(stall for stall, kind in player.stalls if kind != "lead")
        assert lost[len(lost) * 95 // 100 - 1] <= TTL + 3 * TARGET_DURATION, lost


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_one_leads moves the lead as well")
@pytest.mark.takes(25)
async def test_a_warm_standby(tmp_path: Path, bucket: SeaweedBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has uploaded is listed after a takeover without another upload; a sweep takes what is left."""
    monkeypatch.setattr(deleter, "YOUNG", timedelta())  # here, not in the services
    watch, settings = Watch(), SETTINGS | {"BROADCASTER_STANDBY": "warm"}
    async with (
        open_store(access_to(bucket)) as store,
        two_services(tmp_path, bucket, settings) as links,
    ):

        async def in_advance() -> set[str]:
            return {key async for key, _ in deleter.old_warm(store, "live")}

        watching = asyncio.create_task(watch.run(bucket))
        leader = await eventually(partial(one_of, links))
        assert leader
        (standby,) = (link for link in links if link is not leader)
        service = standby.service
        await eventually(partial(metric, service, "warm_segments"), lambda count: count > LISTED)
        await service.kill()
        orphans = await in_advance()
        await service.start()
        standby.encoder.cancel()
        await eventually(partial(metric, service, "warm_segments"), lambda count: count >= LISTED)
        assert orphans < await in_advance()
        await eventually(partial(recorded, bucket))
        await eventually(lambda: watch.held_live)
        await leader.service.kill()
        await eventually(partial(metric, service, "segments_published_total"), lambda count: count >= LISTED)
        assert await metric(service, "uploaded_bytes_total") == 0
        writer = standby.writer
        newest = max(int(path.stem.rpartition("-")[2]) for path in writer.folder.glob("*.ts"))
        writer.segment(newest + 1)
        writer.playlist(range(newest - LISTED + 2, newest + 2))
        own = await eventually(watch.of_newest_run, lambda found: writer.name(newest + 1) in found[-1])
        assert await metric(service, "uploaded_bytes_total") == 3 * len(PACKET)  # of this one alone
        await eventually(partial(recorded, bucket), lambda found: watch.has_newest_run(found[0]))
        warm = await in_advance()
        await service.manage("recordings", "sweep")
        assert await in_advance() == warm > orphans  # they are young
        await store.delete(sorted(warm), deadline=9)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        async with aiohttp.ClientSession() as session:
            watch.segments.clear()
            await watch.look_at(session, own)
    assert min(number for number, uri in watch.numbers.items() if uri in own) > MARGIN
    assert len(own) > LISTED
    assert (watch.missing, watch.violations) == ([], [])


def access_to(bucket: SeaweedBucket) -> Bucket:
    """The bucket, without a lease."""
    return Bucket(
        bucket.endpoint_url,
        bucket.bucket,
        bucket.access_key_id,
        bucket.secret_access_key,
        bucket.public_url,
    )


async def lengthen(bucket: SeaweedBucket, count: int) -> None:
    """Let the open recording in the bucket have many more segments before those that it has."""
    async with open_store(access_to(bucket)) as store:
        keys = [key async for key, _ in store.objects("live/recordings/", deadline=9)]
        (key,) = [key for key in keys if key.endswith("/stream/playlist.m3u8")]
        playlist = parse((await store.get(key, deadline=9)).decode())
        assert isinstance(playlist, MediaPlaylist)
        begin = playlist.segments[0]
        folder, time, length = posixpath.dirname(begin.uri), begin.program_date_time, timedelta(seconds=2)
        assert time
        before = [
            MediaSegment(f"{folder}/before-{n}.ts", length, program_date_time=time - n * length)
            for n in range(count, 0, -1)
        ]
        text = replace(playlist, segments=(*before, *playlist.segments)).render().encode()
        etag = await store.etag(key, deadline=9)
        assert await store.replace(key, text, etag=etag, max_age=2, deadline=9, is_fenced=False)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_one_leads moves the lead as well")
@pytest.mark.takes(240)
async def test_the_lead_is_moved(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Each move by command costs a viewer a segment's duration at most, however long the recording is."""
    watch, player = Watch(), Player()
    async with two_services(tmp_path, bucket, SETTINGS) as links:
        watching = asyncio.gather(watch.run(bucket), player.play(*(link.service for link in links)))
        await eventually(partial(recorded, bucket))
        leader = await eventually(partial(one_of, links))
        assert leader
        await leader.service.kill()
        await lengthen(bucket, LONG)
        (other,) = (link.service for link in links if link is not leader)
        await eventually(partial(leads, other))
        await leader.service.start()
        await player.until(other.address, MARGIN)
        await eventually(partial(recorded, bucket), lambda found: bool(found) and has_runs(found[0], 2))
        player.end_episode("kill")
        for _ in range(10):
            await asyncio.sleep(1)
        player.end_episode("usual")
        for _ in range(20):
            await take_lead(links, watch)
            player.end_episode("lead")
        (whole,) = await eventually(partial(recorded, bucket), lambda found: watch.has_newest_run(found[0]))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    (usual,) = [pause for pause, kind in player.stalls if kind == "usual"]
    pauses = [pause for pause, kind in player.stalls if kind == "lead"]
    assert len(pauses) == 20
    assert max(pauses) <= usual + TARGET_DURATION, pauses
    assert (watch.missing, watch.violations, player.violations) == ([], [], [])
    assert len(whole) > LONG
    assert len(set(whole)) == len(whole)


def has_runs(found: list[str], count: int) -> bool:
    """Whether a long recording has segments of so many encoder runs."""
    return len(found) > LONG and len({uri.rsplit("/", 3)[1] for uri in found}) >= count


async def status_of(service: Service | Worker, path: str) -> int:
    """The status of the playlist behind a path of an invitation, or for a stranger."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(URL(f"{service.address}{path}live/playlist.m3u8", encoded=True)) as answer,
        ):
            return answer.status
    return 0


async def tried(service: Service, text: str, address: str) -> tuple[int, str]:
    """Try a passphrase from an address; returns the status, and the path that it opens."""
    headers = {"Accept": "application/json", "X-Forwarded-For": address}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{service.address}/access", data={"passphrase": text}, headers=headers) as answer,
    ):
        return answer.status, str((await answer.json())["path"]) if answer.status == 200 else ""


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_standby_access has what travels")
@pytest.mark.takes(60)
async def test_a_private_event(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Before and after each takeover guests get in by either service; strangers and revoked ones do not."""
    async with two_services(tmp_path, bucket, PRIVATE) as links:
        leader = await eventually(partial(one_of, links))
        assert leader
        first = leader.service
        (second,) = (link.service for link in links if link is not leader)
        await set_passphrase(first, WORDS)
        rose, mallory = [
            json.loads(await first.manage("invite", "--name", name, "--json"))["path"]
            for name in ("Rose", "Mallory")
        ]
        for service in (first, second):
            await eventually(partial(status_of, service, rose), lambda found: found == 200)
            assert await status_of(service, mallory) == 200
        (listed,) = [
            guest["id"]
            for guest in json.loads(await first.manage("invitations", "list", "--json"))["invitations"]
            if guest["name"] == "Mallory"
        ]
        await first.manage("invitations", "revoke", listed)
        found, typed = await tried(second, WORDS, "192.0.2.1")
        assert found == 200
        for address in ("192.0.2.2", "192.0.2.3"):  # a flood of one guest keeps no other from a try
            tries = [(await tried(second, "wrong words", address))[0] for _ in range(8)]
            assert tries == [401] * 5 + [429] * 3
        async with aiohttp.ClientSession() as session, session.get(f"{second.address}/health") as answer:
            assert await answer.json() == {"status": "standby"}

        async def all_as_it_should_be(*services: Service) -> None:
            for service in services:
                await eventually(partial(status_of, service, typed), lambda found: found == 200)
                expected = [200, 200, 401, 401]
                assert [await status_of(service, path) for path in (typed, rose, mallory, "/")] == expected
                assert await tried(service, "wrong words", "192.0.2.4") == (401, "")
                assert (await tried(service, WORDS, "192.0.2.5"))[0] == 200

        await all_as_it_should_be(first, second)
        assert '"objects": 0' in await first.manage("recordings", "sweep")
        await first.kill()
        await eventually(partial(leads, second))
        await all_as_it_should_be(second)
        await check_flood(second.address, "X-Forwarded-For", at_once=40)
        await first.start()
        await eventually(
            first.health, lambda health: health["warning"] == "stands by: another broadcaster leads"
        )
        await all_as_it_should_be(first, second)
        await first.manage("lead")
        await eventually(partial(leads, first))
        await all_as_it_should_be(first)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_standby_access has what travels")
@pytest.mark.takes(60)
async def test_doors_at_the_edge(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Doors that are closed stay closed after a takeover, and those that were opened stay open."""
    settings = PRIVATE | {"BROADCASTER_DOORS": "closed"}
    async with (
        running_worker(tmp_path) as worker,
        two_services(tmp_path, bucket, settings | worker.settings) as links,
    ):
        leader = await eventually(partial(one_of, links))
        assert leader
        first = leader.service
        (second,) = (link.service for link in links if link is not leader)
        crew, guest = [
            json.loads(await first.manage("invite", "--name", "Rose", *option, "--json"))["path"]
            for option in (["--crew"], [])
        ]

        async def are_open(*gates: Service | Worker, yes: bool) -> None:
            for gate in gates:
                await eventually(partial(status_of, gate, crew), lambda found: found == 200)
                wanted = 200 if yes else 401
                await eventually(partial(status_of, gate, guest), lambda found: found == wanted)  # noqa: B023
                for _ in range(20):
                    assert [await status_of(gate, path) for path in (guest, "/")] == [wanted, 401]
                    await asyncio.sleep(0.1)

        await are_open(worker, first, second, yes=False)
        watching = asyncio.create_task(never_let_in(worker, guest, "/"))
        await first.kill()
        await eventually(partial(leads, second))
        await are_open(worker, second, yes=False)
        await first.start()
        await are_open(first, yes=False)
        await first.manage("lead")
        await eventually(partial(leads, first))
        await are_open(worker, first, yes=False)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await ended(second)
        await second.start()
        await first.manage("doors", "open")
        await are_open(worker, first, second, yes=True)
        await first.kill()
        await eventually(partial(leads, second))
        await are_open(worker, second, yes=True)
        await first.start()
        await are_open(first, yes=True)


async def never_let_in(worker: Worker, *paths: str) -> None:
    """Assert that these are refused, until cancelled."""
    while True:
        for path in paths:
            assert await status_of(worker, path) in (401, 0)
        await asyncio.sleep(0.1)


async def recorded(bucket: SeaweedBucket) -> list[list[str]]:
    """The addresses of the segments of all recordings in the index, by recording."""
    folder = f"{bucket.public_url}/live/recordings/"
    async with aiohttp.ClientSession() as session:

        async def get(address: str) -> str:
            async with session.get(address) as response:
                return await response.text() if response.status == 200 else ""

        found, index = [], await get(f"{folder}index.json")
        for recording in json.loads(index)["recordings"] if index else ():
            main = urljoin(folder, recording["playlist"])
            described = parse(await get(main))
            assert isinstance(described, MultivariantPlaylist)
            address = urljoin(main, described.variants[0].uri)
            playlist = parse(await get(address))
            assert isinstance(playlist, MediaPlaylist)
            found.append([urljoin(address, segment.uri) for segment in playlist.segments])
    return found


async def ended(service: Service) -> int:
    """Wait until a service that has lost the lead has ended; returns its exit status."""
    assert service.child
    return await service.child.wait()


async def one_of(links: list[Link]) -> Link | None:
    """Who leads, if it is one."""
    found = [link for link in links if await leads(link.service)]
    return found[0] if len(found) == 1 else None
