"""On the dashboard only Delete deletes; what was deleted is restored from the bin."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.judges.page import barriers, no_complaints
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

TITLE = "Opening night"


async def recordings(service: Service, token: str, path: str = "recordings") -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{service.admin_address}/api/{path}") as response,
    ):
        return list((await response.json())["recordings"])


@pytest.mark.takes(10)
async def test_a_form_deletes_nothing(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """A date that is typed digit by digit, a past one and half of one change nothing; Enter and blur do."""
    settings = {"BROADCASTER_RECORDINGS": "keep", "BROADCASTER_END_GRACE_SECONDS": "1"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        HlsWriter(tmp_path / "hls/0").write(range(4))
        token = (tmp_path / "state/operator-token").read_text()
        await eventually(lambda: recordings(service, token), lambda found: bool(found and found[0]["ended"]))

        async def kept() -> str | None:
            (recording,) = await recordings(service, token)
            return recording["keepUntil"] and str(recording["keepUntil"])[:10]

        with no_complaints(page):
            asked = list[str]()
            page.on("request", lambda request: asked.append(request.method))
            await page.goto(f"{service.admin_address}/dashboard#recordings")
            await page.get_by_label("Token", exact=True).fill(token)
            await page.get_by_role("button", name="Go on").click()
            said = page.locator("#said")
            title = page.get_by_label("Title: ")
            await title.fill(TITLE)
            await title.press("Enter")
            await expect(said).to_contain_text(f"is called “{TITLE}” now.")
            asked.clear()
            until = page.get_by_label(f"Keep until: {TITLE}")
            day = datetime.now(UTC) + timedelta(days=40)
            await until.focus()
            for typed in (f"{day:%m%d}", "2", f"{day:%Y}"[1:]):
                await page.keyboard.type(typed)
                assert "PATCH" not in asked
                if typed == "2":  # the lists are read again after a change, also while somebody types
                    await eventually(functools.partial(asked.count, "GET"), asked.count("GET").__lt__)
            await until.press("Enter")
            await eventually(kept, lambda found: found == f"{day:%Y-%m-%d}")
            await expect(said).to_contain_text("is kept until")  # else this is said over the next
            await until.fill("2020-01-01")
            await until.blur()
            await expect(said).to_contain_text("Choose a day from tomorrow on")
            assert await kept() == f"{day:%Y-%m-%d}"
            await until.fill(f"{day + timedelta(days=1):%Y-%m-%d}")
            await until.blur()
            await eventually(kept, lambda found: found == f"{day + timedelta(days=1):%Y-%m-%d}")
            await page.get_by_label(f"Delete: {TITLE}").click()
            await expect(said).to_contain_text(f"“{TITLE}” of ")
            await page.locator("#bin summary").click()
            await expect(page.locator("#bin-list")).to_contain_text("goes for good on")
            assert await barriers(page) == []
            assert await recordings(service, token) == []
            await page.get_by_label(f"Restore: {TITLE}").click()
            await expect(title).to_have_value(TITLE)
            assert await recordings(service, token, "bin") == []
