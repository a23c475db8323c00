"""Browsers other than Chromium, by the protocols that they speak themselves: WebDriver and WebDriver BiDi."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import aiohttp
import pytest

from broadcaster.demo.processes import HOST, free_ports
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}
SOUND = {"media.autoplay.default": 0}  # a page may start with it


class Engine(Protocol):
    """A browser with one page."""

    name: str

    async def go(self, url: str) -> None:
        """Load a page."""
        ...

    async def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression."""
        ...

    async def press(self, key: str) -> None:
        """Press a key as a viewer does."""
        ...

    async def picture(self, width: int, height: int) -> bytes:
        """What a window of this size shows, as PNG."""
        ...


def find(program: str, package: str) -> str:
    """Return the path of a program; without it the test is skipped, but never in CI."""
    path = shutil.which(program)
    if path is None:
        missing = f"{program} is missing (apt-get install {package})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def minibrowser() -> str:
    """Return the path of WebKitGTK's browser, which comes with its driver."""
    found = sorted(Path("/usr").glob("lib*/*/webkit2gtk-4.*/MiniBrowser"))
    assert found, "webkit2gtk-driver has no MiniBrowser"
    return str(found[-1])


def keys(key: str) -> list[dict[str, Any]]:
    """The actions of both protocols that press a key."""
    actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
    return [{"type": "key", "id": "keyboard", "actions": actions}]


@dataclass
class WebKit:
    """MiniBrowser of WebKitGTK, by WebDriver."""

    http: aiohttp.ClientSession
    base: str
    name: str = "WebKitGTK"

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.ask("url", url=url)

    async def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression."""
        return await self.ask("execute/sync", script=f"return ({expression})", args=[])

    async def press(self, key: str) -> None:
        """Press a key as a viewer does."""
        await self.ask("actions", actions=keys(key))

    async def picture(self, width: int, height: int) -> bytes:
        """What a window of this size shows, as PNG."""
        await self.ask("window/rect", width=width, height=height)
        await eventually(lambda: self.evaluate("innerWidth"), lambda inner: inner == width)
        drawn = "const [done] = arguments; let frames = 9;"
        drawn += "(function next() { frames-- > 0 ? requestAnimationFrame(next) : done(); })()"
        await self.ask("execute/async", script=drawn, args=[])
        return base64.b64decode(str(await self.ask("screenshot", method="GET")))

    async def ask(self, command: str, method: str = "POST", **parameters: object) -> object:
        body = parameters if method == "POST" else None
        async with self.http.request(method, f"{self.base}/{command}", json=body) as answer:
            value: object = (await answer.json())["value"]
            assert answer.status == 200, value
            return value


@dataclass
class Firefox:
    """Firefox, by WebDriver BiDi."""

    socket: aiohttp.ClientWebSocketResponse
    context: str = ""
    name: str = "Firefox"
    _count = itertools.count(1)

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression."""
        found = await self.ask(
            "script.evaluate",
            expression=f"JSON.stringify({expression}) ?? null",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found
        value = found["result"].get("value")
        return None if value is None else json.loads(value)

    async def press(self, key: str) -> None:
        """Press a key as a viewer does."""
        await self.ask("input.performActions", context=self.context, actions=keys(key))

    async def picture(self, width: int, height: int) -> bytes:
        """What a window of this size shows, as PNG."""
        viewport = {"width": width, "height": height}
        await self.ask("browsingContext.setViewport", context=self.context, viewport=viewport)
        taken = await self.ask("browsingContext.captureScreenshot", context=self.context)
        return base64.b64decode(taken["data"])

    async def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._count)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self.socket.receive_json(timeout=PATIENCE)
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return cast("dict[str, Any]", answer["result"])


@contextlib.asynccontextmanager
async def process(
    *command: str, environment: Mapping[str, str] | None = None, stderr: int = DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that is ended with the block."""
    child = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=stderr, env={**os.environ, **(environment or {})}
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        # Its pipes may be full.
        await child.communicate()


@contextlib.asynccontextmanager
async def webkit(
    *, sound: bool = False, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Engine]:
    """WebKitGTK on a screen of its own; ``sound`` is whether a page may start with it."""
    driver, server = find("WebKitWebDriver", "webkit2gtk-driver"), find("Xvfb", "xvfb")
    browser = minibrowser()
    (port,) = free_ports(1)
    async with contextlib.AsyncExitStack() as stack:
        screen = await stack.enter_async_context(
            process(server, "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp")
        )
        assert screen.stdout
        display = (await screen.stdout.readline()).decode().strip()
        surroundings = {**(environment or {}), "DISPLAY": f":{display}"}
        await stack.enter_async_context(process(driver, f"--port={port}", environment=surroundings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        policy = "allow" if sound else "allow-without-sound"
        options = {"binary": browser, "args": ["--automation", f"--autoplay-policy={policy}"]}
        wanted = {"alwaysMatch": {"webkitgtk:browserOptions": options}}

        async def session() -> str | None:
            try:
                address = f"http://{HOST}:{port}/session"
                async with http.post(address, json={"capabilities": wanted}) as answer:
                    assert answer.status == 200, await answer.text()
                    return str((await answer.json())["value"]["sessionId"])
            except aiohttp.ClientConnectionError:
                return None

        base = f"http://{HOST}:{port}/session/{await eventually(session)}"
        try:
            yield WebKit(http, base)
        finally:
            async with http.delete(base):
                pass


@contextlib.asynccontextmanager
async def firefox(folder: Path, *, sound: bool = False) -> AsyncIterator[Engine]:
    """Firefox with a new profile in ``folder``."""
    path = find("firefox-esr", "firefox-esr")
    await asyncio.to_thread(write_profile, folder, {**PREFERENCES, **(SOUND if sound else {})})
    command = (path, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0")
    async with contextlib.AsyncExitStack() as stack:
        child = await stack.enter_async_context(
            process(*command, environment={"HOME": str(folder)}, stderr=PIPE)
        )
        assert child.stderr
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rb"BiDi listening on (ws://\S+)", await child.stderr.readline())):
                assert child.returncode is None
        drained = asyncio.create_task(child.stderr.read())
        stack.callback(drained.cancel)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await stack.enter_async_context(
            http.ws_connect(found[1].decode() + "/session", max_msg_size=0)
        )
        browser = Firefox(socket)
        await browser.ask("session.new", capabilities={})
        browser.context = (await browser.ask("browsingContext.getTree"))["contexts"][0]["context"]
        yield browser


def write_profile(folder: Path, preferences: Mapping[str, object]) -> None:
    folder.mkdir(parents=True)
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items())
    (folder / "user.js").write_text("".join(lines))


async def until(engine: Engine, look: str, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Wait until ``is_so`` of what ``look``, a JavaScript function, returns."""

    async def seen() -> dict[str, Any]:
        return cast("dict[str, Any]", await engine.evaluate(f"({look})()"))

    return await eventually(seen, is_so)
