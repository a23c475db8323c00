"""A real Chromium for the tests of this folder."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the browser's path; without one the tests are skipped, but never in CI."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    missing = f"no browser: none of {', '.join(NAMES)} is on the PATH (apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """Start a headless Chromium of the test's own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path, headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Open a fresh profile at desktop width."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    """Open an empty tab."""
    return await context.new_page()
