"""Wrong public addresses on the real service: nobody could see the video, and the dashboard says so."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import HOST, free_ports
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.length import SOAK
from tests.support.servers.counting_proxy import counting_front
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

NAMED_WITHIN = 15  # seconds from the first segment, at full length


async def test_each_is_named(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """By the first segments, on the dashboard, in /health, metrics and log; a right one is not."""
    writer = HlsWriter(tmp_path / "hls" / "0")
    page = tmp_path / "page"
    page.mkdir()
    (page / "config.json").write_text('{"pageUrl": "https://watch.example.com"}')
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(counting_front(bucket.public_url))  # which has no CORS
        cases = {
            "right": ({}, None),
            "private": ({"BROADCASTER_URLS": "presigned"}, None),
            "elsewhere": (
                {"R2_PUBLIC_URL": f"{bucket.endpoint_url}/other"},
                "reading an object is answered 40",
            ),
            "dead": ({"R2_PUBLIC_URL": f"http://{HOST}:{free_ports(1)[0]}"}, "refuses connections"),
            "cors": ({"R2_PUBLIC_URL": front.address}, "pages of https://watch.example.com may not read"),
        }

        async def start(name: str, settings: dict[str, str]) -> Service:
            given = {"R2_PREFIX": name, "BROADCASTER_VIEWER_DIR": str(page), **settings}
            (tmp_path / name).mkdir()
            return await stack.enter_async_context(
                running_service(tmp_path / name, tmp_path / "hls", bucket, **given)
            )

        started = await asyncio.gather(*(start(name, settings) for name, (settings, _) in cases.items()))
        services = dict(zip(cases, started, strict=True))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        writer.write(range(3))
        began = time.monotonic()
        streaming = asyncio.create_task(writer.go_on(3))

        async def judged(name: str) -> None:
            service, (_, fault) = services[name], cases[name]
            await eventually(lambda: checks(session, service))
            verdict = (await dashboard(session, service))["verdict"]
            health = await service.health()
            assert time.monotonic() - began < NAMED_WITHIN or not SOAK
            expected = ("failing", 503) if fault else ("ok", 200)
            assert (verdict["parts"]["viewers"], health["http"]) == expected, (name, health)
            failing = await metric(session, service, "broadcaster_guest_check_failing")
            assert failing == bool(fault)
            if fault:
                assert fault in verdict["sentence"]
                assert fault in str(health["reason"])
                assert fault in service.log.read_text()
            assert await metric(session, service, 'broadcaster_segments_lost_total{variant="0"}') == 0

        await asyncio.gather(*map(judged, cases))
        print(f"\nall were judged {time.monotonic() - began:.1f} s after the first segment was written")
        await count_blind_pages(session, services["right"])
        streaming.cancel()


async def count_blind_pages(session: aiohttp.ClientSession, service: Service) -> None:
    """A page that reports errors and no picture makes the verdict a warning."""
    report = {"viewer": "0123456789abcdef", "over": True, "seconds": 0, "errors": 3}
    async with session.post(f"{service.address}/live/beacon", json=report) as answer:
        assert answer.status == 204

    async def warned() -> bool:
        return "1 page reports errors and no picture" in str((await service.health())["warning"])

    await eventually(warned)


async def dashboard(session: aiohttp.ClientSession, service: Service) -> dict[str, Any]:
    async with session.get(f"{service.admin_address}/dashboard/data.json") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def checks(session: aiohttp.ClientSession, service: Service) -> bool:
    """Whether one is over."""
    names = [f'broadcaster_guest_checks_total{{outcome="{outcome}"}}' for outcome in ("done", "failed")]
    return any([await metric(session, service, name) for name in names])


async def metric(session: aiohttp.ClientSession, service: Service, name: str) -> float:
    async with session.get(f"{service.admin_address}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)
