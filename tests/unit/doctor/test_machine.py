"""What the doctor and the service's log say of this machine."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from broadcaster.config import load
from broadcaster.demo.processes import find_program
from broadcaster.doctor import machine
from broadcaster.guest import open_browser
from broadcaster.http import listening
from broadcaster.own_files import VIEWER_DIR
from broadcaster.service.health import CheckFinding
from tests.support.fakes.viewer_app import ViewerApp


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("127.0.0.1", "ok"),
        ("::1", "ok"),
        ("localhost", "ok"),
        ("0.0.0.0", "warning"),
        ("::", "warning"),
        ("192.0.2.1", "warning"),
        ("no-such-name.invalid", "failed"),
    ],
)
def test_operator(host: str, verdict: str) -> None:
    """The listener that has no login is this machine's alone."""
    found = machine.admin_listener(host)
    assert found.outcome == verdict, found
    assert verdict == "ok" or f"{host} opens" in found.message or f"{host} is no address" in found.message


async def test_both_listeners_at_one_address() -> None:
    """Two listeners cannot have one port, which neither alone would show."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with open_browser("http://127.0.0.1") as browser:
        alone = await machine.addresses(browser, ("127.0.0.1", port), ("127.0.0.1", 0))
        both = await machine.addresses(browser, ("127.0.0.1", port), ("127.0.0.1", port))
        foreign = await machine.addresses(browser, ("192.0.2.1", 0), ("127.0.0.1", 0))
    assert alone.outcome == "ok", alone
    assert both.outcome == "failed"
    assert "BROADCASTER_ADMIN_PORT" in both.remedy
    assert foreign.outcome == "failed"
    assert "192.0.2.1:0 cannot be had: Cannot assign requested address" in foreign.message


def test_page_that_is_not_built(tmp_path: Path) -> None:
    """A source tree without the libraries that the page loads."""
    (tmp_path / "index.html").touch()
    found = machine.page(tmp_path)
    assert found.outcome == "warning"
    assert f"{tmp_path}/vendor is not there" in found.message
    assert machine.page(VIEWER_DIR / "none").outcome == "warning"


def test_pictures(tmp_path: Path) -> None:
    """Whether there will be pictures; that there are none is no fault."""

    def said(program: str, **settings: str) -> CheckFinding:
        return machine.ffmpeg(
            load(
                _env_file=None,
                BROADCASTER_HLS_DIR=tmp_path,
                BROADCASTER_PICTURES=program,
                R2_ENDPOINT_URL="http://127.0.0.1:1",
                R2_BUCKET="bucket",
                R2_ACCESS_KEY_ID="key",
                R2_SECRET_ACCESS_KEY="secret",
                R2_PUBLIC_URL="http://127.0.0.1:1",
                **settings,
            )
        )

    assert said("/bin/sh").message == "/bin/sh makes them"
    assert "there is no /nowhere/ffmpeg here" in said("/nowhere/ffmpeg").message
    for none in (said("off"), said("/bin/sh", BROADCASTER_URLS="presigned")):
        assert none.message == "none are made, as the settings say"
    assert said("/nowhere/ffmpeg").outcome == "ok"


def test_the_log_at_the_start(tmp_path: Path) -> None:
    """The service itself says what is wrong with its settings, before anything that stops it."""
    (tmp_path / "state").touch()
    settings = {
        "BROADCASTER_HLS_DIR": "hls",
        "BROADCASTER_ADMIN_HOST": "0.0.0.0",
        "BROADCASTER_VIEWER_DIR": "page",
        "BROADCASTER_PROT": "3000",
        "R2_ENDPOINT_URL": "http://127.0.0.1:1",
        "R2_BUCKET": "bucket",
        "R2_ACCESS_KEY_ID": "key",
        "R2_SECRET_ACCESS_KEY": "secret",
        "R2_PUBLIC_URL": "http://127.0.0.1:1",
    }
    command = [find_program("broadcaster"), "run"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "BROADCASTER_PROT is not a setting (perhaps BROADCASTER_PORT is meant)" in ran.stderr
    assert "0.0.0.0 opens dashboard and metrics" in ran.stderr
    assert "viewers get no page: page/index.html is not there" in ran.stderr


async def test_the_other_broadcaster(tmp_path: Path) -> None:
    """A standby can pass requests on to it, or what keeps it from that, and what to do."""
    async with listening(ViewerApp(tmp_path).app, "127.0.0.1", 0, "") as address:
        assert "answers: while that one leads" in (await machine.other_broadcaster(address)).message
    found = await machine.other_broadcaster(address)
    assert found.outcome == "warning"
    assert "cannot be reached" in found.message
    assert "BROADCASTER_LEADER_URL" in found.remedy
    assert "closed" in (await machine.other_broadcaster(None)).message
