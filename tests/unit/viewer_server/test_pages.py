"""The page's HTML and its settings, as the service serves them."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from broadcaster.http.static import StaticFiles
from broadcaster.ipc.messages import HealthReport
from tests.support.fakes.viewer_app import Client, ViewerApp


async def test_page_config(client: Client, tmp_path: Path) -> None:
    """The page gets the service's settings; the operator's file overrides them."""
    assert (await (await client.get("/config.json")).json())["eventsUrl"] == "/live/events"
    (tmp_path / "viewer" / "config.json").write_text('{"title": "Our evening", "eventsUrl": null}')
    config = await (await client.get("/config.json")).json()
    assert config["title"] == "Our evening"
    assert config["eventsUrl"] is None
    (tmp_path / "viewer" / "config.json").write_text("{")
    assert (await (await client.get("/config.json")).json())["title"] == "Live"


async def test_title_and_link_preview(site: ViewerApp, client: Client, tmp_path: Path) -> None:
    """Title and link preview are Owncast's, then the operator's, and everything is escaped."""

    async def page() -> str:
        return await (await client.get("/")).text()

    assert "<title>Live</title>" in await page()
    site.report(HealthReport("live", 0, None, title="Owncast's evening"))
    assert "<title>Owncast&#x27;s evening</title>" in await page()
    assert (await (await client.get("/config.json")).json())["title"] == "Owncast's evening"
    poster = "https://video.example/live/poster.jpg"
    site.report(HealthReport("live", 0, None, poster=poster))
    assert "<title>Live</title>" in (text := await page())
    assert f'<meta property="og:image" content="{poster}">' in text
    assert (await (await client.get("/config.json")).json())["poster"] == poster
    event = {
        "title": 'A & B </title><script>alert("1")</script>',
        "performer": '"Trio"',
        "poster": "poster.jpg",
        "pageUrl": "https://live.example/",
    }
    (tmp_path / "viewer" / "config.json").write_text(json.dumps(event))
    text = await page()
    assert "<script>" not in text
    assert text.count("<title>") == 1
    assert '<meta property="og:description" content="&quot;Trio&quot;">' in text
    assert '<meta property="og:url" content="https://live.example/">' in text
    assert '<meta property="og:image" content="https://live.example/poster.jpg">' in text
    first = (await client.get("/")).headers["ETag"]
    (tmp_path / "viewer" / "config.json").write_text('{"title": "B", "poster": "javascript:1"}')
    answer = await client.get("/", headers={"If-None-Match": first})
    assert answer.status == 200
    assert "og:image" not in await answer.text()


async def test_an_unknown_address_leads_to_the_stream(
    tmp_path: Path, aiohttp_client: Callable[[web.Application], Awaitable[Client]]
) -> None:
    """A browser gets the page 404.html, a program a line; both have the status 404."""
    (tmp_path / "404.html").write_text('<a href="/">To the live stream</a>')
    app = web.Application()
    app.router.add_get("/{path:.*}", StaticFiles(("", tmp_path)).answer)
    there = await aiohttp_client(app)
    for accept, expected in (("text/html,*/*", "To the live stream"), ("*/*", "There is no such file.\n")):
        answer = await there.get("/nowhere/at/all", headers={"Accept": accept})
        assert answer.status == 404
        assert expected in await answer.text()
