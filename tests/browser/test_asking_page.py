"""The page that asks for the passphrase of a private event, as its readers see it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Route, expect

from broadcaster.demo.encoder import ffmpeg
from broadcaster.demo.processes import find_program
from broadcaster.http import listening
from tests.support.fakes.private_site import Site
from tests.support.judges.gate_cases import WAITS, token
from tests.support.judges.page import barriers, no_complaints
from tests.support.length import SOAK
from tests.support.waiting import PATIENCE

PROGRAM = ffmpeg()[0]
EVENT = {"title": "An evening", "performer": "The Trio", "startsAt": "2026-12-24T20:00:00+01:00"}
SIZES = ((1280, 800), (360, 740))
SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
LOOKS = list(product(SIZES, SCHEMES) if SOAK else zip(SIZES, SCHEMES, strict=True))


def blurred(folder: Path) -> dict[str, str]:
    """The setting that the command makes of a picture."""
    picture = folder / "poster.jpg"
    source = ("-f", "lavfi", "-i", "testsrc2=size=1280x720", "-frames:v", "1")
    subprocess.run([PROGRAM, "-v", "error", *source, str(picture)], check=True)
    command = [find_program("broadcaster"), "blur", str(picture)]
    environment = {**os.environ, "BROADCASTER_PICTURES": PROGRAM}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(f"{{{made.stdout}}}")
    assert isinstance(found, dict)
    return found


async def stay(route: Route) -> None:
    """Answer without Refresh: a page that waits for the doors is loaded again while it is looked at."""
    answer = await route.fetch()
    headers = {name: value for name, value in answer.headers.items() if name != "refresh"}
    await route.fulfill(response=answer, headers=headers)


@pytest.mark.takes(5)
@pytest.mark.parametrize(
    ("scripts", "start"),
    [
        (True, "Freitag, 25. Dezember um 04:00\u00a0GMT+9"),
        (False, "Donnerstag, 24. Dezember 2026, 20:00\u00a0UTC+01:00"),
    ],
)
async def test_an_event_in_another_zone(
    browser: Browser, tmp_path: Path, *, scripts: bool, start: str
) -> None:
    """The start is by the reader's clock, without scripts by the operator's; the blurred poster is there."""
    site, pictures = Site(tmp_path), Path(os.environ.get("SCREENSHOTS", tmp_path))
    settings = EVENT | await asyncio.to_thread(blurred, tmp_path)
    (site.folder / "config.json").write_text(json.dumps(settings))
    context = await browser.new_context(
        timezone_id="Asia/Tokyo", locale="de-DE", java_script_enabled=scripts, reduced_motion="reduce"
    )
    context.set_default_timeout(1000 * PATIENCE)
    async with listening(site.server.app, "127.0.0.1", 0, "port") as address:
        page = await context.new_page()
        await page.route(f"{address}/**", stay)
        with no_complaints(page):
            for path in ("/", f"/t/{token(grant=WAITS)}/"):  # without a token, and waiting for the doors
                await page.goto(address + path)
                await expect(page.get_by_role("heading", name="An evening")).to_be_visible()
                await expect(page.get_by_text("The Trio")).to_be_visible()
                await expect(page.locator("time")).to_have_text(start)
                assert await page.locator("time").text_content() == start  # with its spaces
                assert await page.locator(".poster").evaluate("image => image.naturalWidth") == 24
                for (width, height), scheme in LOOKS:
                    await page.set_viewport_size({"width": width, "height": height})
                    await page.emulate_media(color_scheme=scheme)
                    name = f"asks {'closed' if len(path) > 1 else 'open'} {width} {scheme}.png"
                    await page.screenshot(path=pictures / name)
                    assert not scripts or await barriers(page) == []
    await context.close()
