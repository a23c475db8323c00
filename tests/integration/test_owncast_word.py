"""The service beside an Owncast that says whether its encoder is connected."""

import math
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.fakes.owncast_api import VERSION, fake_owncast
from tests.support.judges.check_command import examine, settings_of
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

GRACE = "20"  # seconds: an encoder is silent after 5, and a busy machine looks later
CONNECTED, ENDED = "broadcaster_owncast_connected", "broadcaster_source_ended"


async def text_of(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def metric(service: Service, name: str) -> float:
    """What it is now."""
    families = text_string_to_metric_families(await text_of(f"{service.admin_address}/metrics"))
    return next(family.samples[0].value for family in families if family.name == name)


async def test_its_word_ends_a_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Five minutes before the grace time is over, a webhook has Owncast asked, and its answer is the end.

    Before, a restart of Owncast with the encoder back at once is nothing. As long as the encoder may come
    back, ``/health`` is 503.
    """
    writer = HlsWriter(tmp_path / "hls" / "0")
    writer.write(range(3))

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with fake_owncast() as owncast:
        owncast.connect()
        settings = {
            "BROADCASTER_OWNCAST_URL": owncast.url,
            "BROADCASTER_DISCONNECT_GRACE_SECONDS": GRACE,
        }
        async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
            playlist = f"{service.address}/live/playlist.m3u8"

            async def shows(text: str) -> bool:
                return text in await text_of(playlist)

            async def says(value: float) -> bool:
                found = await metric(service, CONNECTED)
                return found == value or (math.isnan(found) and math.isnan(value))

            async def has_paused() -> bool:
                health = await service.health()
                paused = "and Owncast says that it has disconnected" in str(health["reason"])
                return paused and health["http"] == 503

            await eventually(lambda: shows(writer.name(2)))
            await eventually(lambda: says(1))
            owncast.answer = fail
            await eventually(lambda: says(math.nan))
            owncast.answer = None
            owncast.restart()
            await eventually(lambda: says(0))
            owncast.connect()
            await eventually(lambda: says(1))
            owncast.show()
            writer.write(range(4))
            await eventually(lambda: shows(writer.name(3)))
            assert not await shows("#EXT-X-ENDLIST")
            assert await metric(service, ENDED) == 0
            owncast.disconnect()
            async with aiohttp.ClientSession() as session:
                hook = f"{service.admin_address}/owncast/webhook"
                async with session.post(hook, json={"type": "STREAM_STOPPED"}) as response:
                    assert response.status == 204
            await eventually(has_paused)
            assert not await shows("#EXT-X-ENDLIST")
            await eventually(lambda: shows("#EXT-X-ENDLIST"))
            assert (await service.health())["http"] == 200
            assert await metric(service, CONNECTED) == 0
            assert await metric(service, ENDED) == 1
        log = service.log.read_text()
    assert log.count("Owncast says that the encoder has connected") == 2
    assert log.count("Owncast says that the encoder has disconnected") == 2


async def test_check_has_a_row_for_it(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Where its address is set the doctor says which Owncast answers; where it is not, nothing of it."""
    async with fake_owncast() as owncast:
        settings = settings_of(tmp_path, bucket, BROADCASTER_OWNCAST_URL=owncast.url)
        found = await examine(tmp_path, settings, "--json")
        found.says("owncast", "ok", f"version {VERSION} answers; no encoder is connected", "")
    gone = await examine(tmp_path, settings, "--json")
    gone.says("owncast", "warning", "it refuses connections", "BROADCASTER_OWNCAST_URL")
    assert "owncast" not in (await examine(tmp_path, settings_of(tmp_path, bucket), "--json")).checks
