"""Where the tests' Chromium is, and how it is started."""

import os
import shutil

import pytest

from tests.support.length import SOAK

# The browser without windows starts in half the time; ``make soak`` takes a whole browser.
HEADLESS_SHELL, BROWSERS = "chromium-headless-shell", ("chromium", "chromium-browser", "google-chrome")
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


def find_chromium() -> str:
    """Return the browser's path; without one the tests are skipped, but never in CI."""
    names = (*BROWSERS, HEADLESS_SHELL) if SOAK else (HEADLESS_SHELL, *BROWSERS)
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing = f"no browser: none of {', '.join(names)} is on the PATH (apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
