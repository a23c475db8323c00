"""A relay and its origin, with real playlists, events and objects, and an uplink that can be cut."""

import asyncio

import pytest

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from broadcaster.tracker.protocol import info_hash, stream_index
from tests.conformance.checks import run_all
from tests.conformance.subject import State, subject_at
from tests.conformance.verdicts import Outcome
from tests.support.fakes.webtorrent_clients import announce
from tests.support.faults.fault_proxy import Fault
from tests.support.judges.playlist_rules import violations
from tests.support.length import SOAK, seconds
from tests.support.servers.relay import Client, relaying
from tests.support.servers.relay_origin import TARGET, SmallOrigin
from tests.support.waiting import PATIENCE, eventually

CLIENTS = 100


async def test_a_hundred_clients_cost_the_uplink_one() -> None:
    """Each object is asked for once at the origin, whoever plays it, and 98 % of all answers are hits."""
    origin, later = SmallOrigin(), seconds(20, 3)
    origin.size = 20_000 if SOAK else 2000
    async with origin.running():
        origin.publish(3)
        async with relaying(origin.public) as relayed:
            await relayed.until_last(3)
            clients = [Client(relayed, str(number % 2)) for number in range(CLIENTS)]
            playing = asyncio.gather(*(client.play(3 + later) for client in clients))
            for number in range(4, 4 + later):
                origin.publish()
                await relayed.until_last(number)
            await playing
            figures = await relayed.metrics()
        assert all(sum(client.sizes.values()) == (3 + later) * origin.size for client in clients)
        assert len(origin.asked) == 2 * (3 + later)
        assert set(origin.asked.values()) == {1}
        assert figures["broadcaster_relay_answers_total"] == CLIENTS * (3 + later)
        assert figures["broadcaster_relay_hit_ratio"] >= 0.98
        assert figures["broadcaster_relay_saved_bytes"] == (CLIENTS - 2) * (3 + later) * origin.size


async def test_the_uplink_is_away_and_comes_back(origin: SmallOrigin) -> None:
    """The relay serves on without ENDLIST, says what is wrong, and all missed segments follow."""
    versions: list[MediaPlaylist] = []
    async with relaying(origin.public) as relayed:
        before = await relayed.until_last(3)
        for segment in before.segments:
            await relayed.get(segment.uri)
        await origin.proxy.switch(Fault.REFUSE)
        await relayed.until_event("state", "trouble", trouble="delivery")
        health = await relayed.health()
        assert health["http"] == 503
        assert "reconnecting" in health["reason"]
        async with relayed.session.get(relayed.address + "/health") as response:
            assert origin.public not in await response.text()
        origin.publish(3)
        await asyncio.sleep(seconds(30, 0))
        versions.append(await relayed.media())
        assert versions[0] == before
        for segment in before.segments:
            response, body = await relayed.get(segment.uri)
            assert (response.status, len(body)) == (200, origin.size)
        origin.ping()
        await origin.proxy.switch(Fault.NONE)
        versions.append(await relayed.until_last(6))
        assert [segment.gap for segment in versions[1].segments] == [False] * 6
        assert violations(versions[0], versions[1]) == []
        await relayed.until_event("state", "trouble", trouble=None)
        assert (await relayed.health())["http"] == 200
        response, body = await relayed.get(versions[1].segments[-1].uri)
        assert body == origin.body(origin.path("0", 5))


async def test_a_stream_that_starts_again(origin: SmallOrigin) -> None:
    """Another run of the encoder is a DISCONTINUITY; after ENDLIST the next stream has the same address."""
    async with relaying(origin.public) as relayed:
        first = await relayed.until_last(3)
        origin.publish(run=1)
        second = await relayed.until_last(4)
        assert second.segments[-1].discontinuity
        assert violations(first, second) == []
        ended = asyncio.create_task(relayed.until_event("ended"))
        waiting = asyncio.create_task(relayed.media("0", "?_HLS_msn=5"))
        await relayed.until_event("state", state="live")
        origin.end()
        assert (await waiting).ended
        await ended
        origin.publish(2, run=2)
        third = await relayed.until_last(6)
        assert violations(await waiting, third) == []
        assert not third.ended
        await relayed.until_event("state", state="live", run="r2")


async def test_a_stream_with_other_variants(origin: SmallOrigin) -> None:
    """The next stream has as many as the origin says, each with its playlist."""
    async with relaying(origin.public) as relayed:
        await relayed.until_last(3)
        origin.end()
        origin.name_variants("0", "1", "2")
        origin.publish(2, run=1)
        last = await relayed.until_last(2, "2")
        assert (await relayed.get(last.segments[-1].uri))[1] == origin.body(origin.path("2", 1))
        _, body = await relayed.get("/live/playlist.m3u8")
        assert body.count(b"#EXT-X-STREAM-INF") == 3
        origin.end()
        origin.name_variants("1")
        origin.publish(2, run=2)
        await eventually(lambda: relayed.get("/live/0/playlist.m3u8"), lambda answer: answer[0].status == 404)
        _, body = await relayed.get("/live/playlist.m3u8")
        assert body.decode() == (await relayed.media("1")).render()


async def test_an_origin_that_has_forgotten_everything(origin: SmallOrigin) -> None:
    """Another one under its address, whose numbers begin anew: viewers get what it has."""
    origin.publish(5)
    other = SmallOrigin()
    async with relaying(origin.public) as relayed, other.running():
        await relayed.until_last(8)
        other.public = origin.public
        other.publish(2, run=9)
        await origin.proxy.switch(Fault.NONE, port=other.port)
        listed = await eventually(relayed.media, lambda listed: listed.last == 2)
        assert (await relayed.get(listed.segments[0].uri))[1] == other.body(other.path("0", 0))
        other.publish()
        assert (await relayed.media("0", "?_HLS_msn=3")).last == 3


async def test_viewers_of_a_relay_meet_at_its_own_tracker(origin: SmallOrigin) -> None:
    """It serves the swarms of the run that the origin tells of, and no others."""
    async with relaying(origin.public) as relayed:
        await relayed.until_event("state", run="r0")
        await relayed.until_last(3)
        main = parse((await relayed.get("/live/playlist.m3u8"))[1].decode())
        assert isinstance(main, MultivariantPlaylist)
        index = stream_index(main.variants[0])
        swarms = {info_hash("r0", index): "interval", info_hash("other", index): "failure reason"}
        async with relayed.session.ws_connect(f"{relayed.address}/live/tracker") as socket:
            for swarm, key in swarms.items():
                await socket.send_str(announce("ada", swarm=swarm))
                assert key in await socket.receive_json(timeout=PATIENCE)


async def test_an_only_variant_is_the_main_playlist() -> None:
    """It is called as its events call it, and waits for the next segment under both addresses."""
    origin = SmallOrigin(("720p",))
    async with origin.running():
        origin.publish(3)
        async with relaying(origin.public) as relayed:
            await relayed.until_event("state", run="r0")
            listed = await relayed.until_last(3, "720p")
            response, body = await relayed.get("/live/playlist.m3u8")
            assert listed.render() == body.decode()
            waiting = asyncio.create_task(relayed.get("/live/playlist.m3u8?_HLS_msn=4"))
            origin.publish()
            response, body = await waiting
            assert response.status == 200
            assert body.count(b"#EXTINF") == 4


async def test_before_the_origin_was_reached_nobody_knows(origin: SmallOrigin) -> None:
    """A relay starts without it, says neither that a stream is on nor that there is none, and then serves."""
    await origin.proxy.switch(Fault.REFUSE)
    async with relaying(origin.public) as relayed:
        for path in ("/live/playlist.m3u8", "/live/0/playlist.m3u8", "/live/events"):
            response, _ = await relayed.get(path)
            assert (response.status, response.headers["Cache-Control"]) == (503, "no-store")
        await origin.proxy.switch(Fault.NONE)
        assert len((await relayed.until_last(3)).segments) == 3


@pytest.mark.takes(10)
async def test_no_rule_is_broken(origin: SmallOrigin) -> None:
    """The conformance suite finds a relay's playlists as right as their origin's."""
    origin.publish(3)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(TARGET)
            origin.publish()

    async def judge(state: State) -> int:
        url = f"{relayed.address}/live/playlist.m3u8"
        async with subject_at(url, state, delay=30.0) as subject:
            verdicts = await run_all(subject)
        assert [str(verdict) for verdict in verdicts if verdict.outcome is Outcome.FAILED] == []
        return sum(verdict.outcome is Outcome.OK for verdict in verdicts)

    async with relaying(origin.public) as relayed:
        await relayed.until_last(6)
        writing = asyncio.create_task(go_on())
        assert await judge(State.LIVE) > 20
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        if SOAK:
            assert await judge(State.PAUSED) > 20
            origin.end()
            await relayed.until_event("state", "ended")
            assert await judge(State.ENDED) > 10
