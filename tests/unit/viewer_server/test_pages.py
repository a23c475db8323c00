"""The page's HTML and its settings, as the service serves them."""

import json
from pathlib import Path

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


async def test_the_page_is_installed_in_its_readers_language(client: Client, tmp_path: Path) -> None:
    """The manifest has the words of the reader's language, or the operator's, and its icons."""
    for wanted, language, name in (("de-CH", "de", "Livestream"), ("xx", "en", "Live stream")):
        answer = await client.get("/manifest.json", headers={"Accept-Language": wanted})
        manifest = await answer.json()
        assert (manifest["lang"], manifest["name"]) == (language, name)
        assert {"192x192", "512x512"} == {icon["sizes"] for icon in manifest["icons"]}
        assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept-Language", "no-cache")
    (tmp_path / "viewer" / "config.json").write_text('{"language": "fr"}')
    assert (await (await client.get("/manifest.json")).json())["lang"] == "fr"


async def test_an_unknown_address_leads_to_the_stream(client: Client, tmp_path: Path) -> None:
    """A browser gets a page in its language, or the operator's; a program a line; the status is 404."""
    for accept, languages, expected in (
        ("text/html,*/*", "en-GB", "To the live stream"),
        ("text/html", "de-CH, en;q=0.5", '<html lang="de" dir="ltr">'),
        ("text/html", "de", "Diese Seite gibt es nicht</h1>"),
        ("text/html", "xx", '<title data-text="lostTitle">There is no such page</title>'),
        ("*/*", "de", "There is no such file.\n"),
    ):
        headers = {"Accept": accept, "Accept-Language": languages}
        answer = await client.get("/nowhere/at/all", headers=headers)
        assert answer.status == 404
        assert expected in await answer.text()
    (tmp_path / "viewer" / "config.json").write_text('{"language": "fr"}')
    answer = await client.get("/nowhere", headers={"Accept": "text/html", "Accept-Language": "de"})
    assert (answer.headers["Content-Language"], answer.headers["Vary"]) == ("fr", "Accept-Language")
    assert "Voir le direct" in await answer.text()
