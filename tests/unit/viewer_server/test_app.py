"""HTTP answers for players, browsers and monitors."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.aio import boot_time
from broadcaster.hls import ByteRange
from broadcaster.http.static import MOST_COMPRESSED
from broadcaster.ipc.messages import HealthReport, Ping, Setup
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.viewer_app import MEDIA, Client, ViewerApp
from tests.support.waiting import eventually


@pytest.mark.parametrize("path", ["/live/playlist.m3u8", MEDIA, "/live/9/playlist.m3u8"])
async def test_before_a_stream(client: Client, path: str) -> None:
    """A playlist that does not exist yet is a 404 that is not cached and readable by any page."""
    response = await client.get(path)
    assert response.status == 404
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["/live/playlist.m3u8", MEDIA])
async def test_playlist_headers(site: ViewerApp, client: Client, path: str) -> None:
    """A playlist has its media type, CORS headers for any page, and a short cache time."""
    site.go_live("0", "1")
    response = await client.get(path, params={"cache-buster": "1"})
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert {"Age", "Date", "ETag"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))
    assert response.headers["Cache-Control"] == "public, max-age=4"
    assert response.headers["Last-Modified"] == "Thu, 01 Jan 2026 12:00:00 GMT"
    assert "Date" in response.headers
    assert "aiohttp" not in response.headers["Server"]
    head = await client.head(path)
    assert head.status == 200
    assert await head.read() == b""
    assert head.headers["ETag"] == response.headers["ETag"]


async def test_one_variant_is_the_main_playlist(site: ViewerApp, client: Client) -> None:
    """With one variant, the main address has its media playlist."""
    site.go_live("0")
    main = await (await client.get("/live/playlist.m3u8")).text()
    assert main == await (await client.get(MEDIA)).text()
    assert "#EXTINF" in main


@pytest.mark.parametrize("variants", ["0", "01"])
async def test_i_frame_playlists(site: ViewerApp, client: Client, variants: str) -> None:
    """Each media playlist has an I-frame playlist with the same cache time, unless no key frame is known."""
    site.go_live(*variants)
    beside, main = "/live/0/iframes.m3u8", "/live/iframes.m3u8"
    assert [(await client.get(path)).status for path in (beside, main)] == [404, 404]
    site.publish("0", iframe=ByteRange(9400, 376))
    response, media = await client.get(beside), await client.get(MEDIA)
    assert (await response.text()).count("#EXT-X-BYTERANGE:9400@376\n") == 1
    for name in ("Content-Type", "Cache-Control", "Access-Control-Allow-Origin", "Last-Modified"):
        assert response.headers[name] == media.headers[name]
    answers = {"0": 200, "01": 404}
    assert (await client.get(main)).status == answers[variants]
    named = '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=19484,URI="0/iframes.m3u8"'
    assert (named in await (await client.get("/live/playlist.m3u8")).text()) is (len(variants) > 1)
    assert (await client.get("/live/9/iframes.m3u8")).status == 404


@pytest.mark.parametrize(
    ("accept", "gzipped"),
    [
        ("gzip", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("deflate, gzip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, br", False),
        ("gzip;q=0.01", True),
        ("xgzip", False),
    ],
)
async def test_gzip(site: ViewerApp, client: Client, accept: str, *, gzipped: bool) -> None:
    """Compression is the client's choice, and each encoding has its own validator."""
    site.go_live("0")
    plain = await client.get(MEDIA, headers={"Accept-Encoding": ""})
    response = await client.get(MEDIA, headers={"Accept-Encoding": accept}, auto_decompress=False)
    body = await response.read()
    assert (response.headers.get("Content-Encoding") == "gzip") is gzipped
    assert (gzip.decompress(body) if gzipped else body) == await plain.read()
    assert response.headers["Vary"] == "Accept-Encoding"
    assert (response.headers["ETag"] != plain.headers["ETag"]) is gzipped


async def test_conditional_requests(site: ViewerApp, client: Client) -> None:
    """A client with the current version gets 304 without a body, and the next version in full."""
    site.go_live("0")
    etag = (await client.get(MEDIA)).headers["ETag"]
    for condition in (etag, f'"x", W/{etag}', "*"):
        response = await client.get(MEDIA, headers={"If-None-Match": condition})
        assert response.status == 304
        assert await response.read() == b""
        assert response.headers["ETag"] == etag
        assert "Cache-Control" in response.headers
    site.publish("0")
    assert (await client.get(MEDIA, headers={"If-None-Match": etag})).status == 200


async def test_preflight(client: Client) -> None:
    """A preflight is allowed on each playlist address."""
    response = await client.options(
        MEDIA, headers={"Origin": "https://a", "Access-Control-Request-Method": "GET"}
    )
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in response.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    ("reason", "status", "word"), [(None, 200, "ok"), ("the bucket is away", 503, "failing")]
)
async def test_health(
    site: ViewerApp, aiohttp_client: AiohttpClient, reason: str | None, status: int, word: str
) -> None:
    """Health keeps its keys, and is 503 while a stream does not get through; operators get the reason."""
    site.go_live("0", "1")
    site.report(HealthReport("live", 3, reason, published=2, listed=2))
    public, operator = await aiohttp_client(site.app), await aiohttp_client(site.operator_app)
    response = await operator.get("/health")
    assert response.status == status
    assert response.headers["Cache-Control"] == "no-store"
    body = await response.json()
    assert body == {
        "status": word,
        "stream": "live",
        "reason": reason,
        "warning": None,
        "chunks": 2,
        "manifestChunks": 2,
        "backlog": 3,
        "peers": 0,
        "torrents": 0,
        "signaling": False,
    }
    health = await public.get("/health")
    assert health.status == status
    assert await health.json() == {**body, "reason": reason}


async def test_metrics(site: ViewerApp, client: Client, aiohttp_client: AiohttpClient) -> None:
    """The operator's listener has metrics for Prometheus; the viewers' listener has none."""
    site.go_live("0")
    assert (await client.get("/metrics")).status == 404
    operator = await aiohttp_client(site.operator_app)
    response = await operator.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    text = await response.text()
    assert 'broadcaster_segments_published_total{variant="0"} 1.0' in text
    assert 'broadcaster_publish_delay_seconds_count{variant="0"} 1.0' in text
    assert "broadcaster_streams_started_total 1.0" in text
    assert 'broadcaster_requests_total{route="viewer",status="404"} 1.0' in text
    assert (await operator.get("/health")).status == 200


async def test_viewer(client: Client) -> None:
    """The page and its modules are served, and no other files."""
    index = await client.get("/")
    assert index.status == 200
    assert "<title>Live</title>" in await index.text()
    assert index.headers["Cache-Control"] == "no-cache"
    assert (await client.get("/main.js")).status == 200
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/nothing.js"):
        assert (await client.get(path)).status in (403, 404)


async def test_other_methods_are_refused(client: Client) -> None:
    """Methods that write are refused."""
    for method in ("POST", "PUT", "DELETE"):
        assert (await client.request(method, MEDIA)).status == 405


async def test_the_page_has_its_settings_inside(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The page needs no request for its settings, no value ends their element, and a change is served."""
    block = '<script id="config" type="application/json">'
    (tmp_path / "index.html").write_text(f"<!doctype html>{block}</script><p>page")
    config = tmp_path / "config.json"
    client = await aiohttp_client(ViewerServer(Setup(tmp_path, {"mode": "sharing"})).app)
    etags = set()
    for title in ("Our evening", "</script><script>alert(1)</script><!--"):
        config.write_text(json.dumps({"title": title}))
        response = await client.get("/")
        inside, after = (await response.text()).removeprefix(f"<!doctype html>{block}").split("<", 1)
        assert json.loads(inside) == {"mode": "sharing", "title": title}
        assert after == "/script><p>page"
        assert response.headers["Cache-Control"] == "no-cache"
        etags.add(response.headers["ETag"])
        again = await client.get("/", headers={"If-None-Match": response.headers["ETag"]})
        assert again.status == 304
    assert len(etags) == 2


@pytest.mark.parametrize(
    ("accept", "coding"), [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("", None), ("br;q=0", None)]
)
async def test_built_files_are_immutable(
    tmp_path: Path, aiohttp_client: AiohttpClient, accept: str, coding: str | None
) -> None:
    """Files of the build are served as they were compressed, each coding with its own validator."""
    (tmp_path / "assets").mkdir()
    for suffix, body in (("", b"plain"), (".br", b"as br"), (".gz", b"as gzip")):
        (tmp_path / f"assets/main-0123456789.js{suffix}").write_bytes(body)
    client = await aiohttp_client(ViewerServer(Setup(tmp_path)).app, auto_decompress=False)
    path = "/assets/main-0123456789.js"
    response = await client.get(path, headers={"Accept-Encoding": accept})
    assert await response.read() == (f"as {coding}".encode() if coding else b"plain")
    assert response.headers.get("Content-Encoding") == coding
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.headers["ETag"].endswith(f'-{coding}"' if coding else '"')
    assert (await client.get(f"{path}.br")).status == 404


@pytest.mark.parametrize(("size", "coding"), [(MOST_COMPRESSED, "gzip"), (MOST_COMPRESSED + 1, None)])
async def test_large_files_are_not_compressed(
    tmp_path: Path, aiohttp_client: AiohttpClient, size: int, coding: str | None
) -> None:
    """Compressing a large body would keep all viewers waiting."""
    (tmp_path / "notes.txt").write_bytes(bytes(size))
    client = await aiohttp_client(ViewerServer(Setup(tmp_path)).app)
    response = await client.get("/notes.txt", headers={"Accept-Encoding": "gzip"})
    assert await response.read() == bytes(size)
    assert response.headers.get("Content-Encoding") == coding


async def test_another_broadcaster_may_lead(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """One of two broadcasters shows the stream while it surely leads: what the other one lists is newer."""
    server = ViewerServer(Setup(tmp_path, fenced=True))
    client = await aiohttp_client(server.app)
    paths = ("/live/playlist.m3u8", MEDIA, "/live/kept.m3u8", "/live/events/now")

    async def statuses() -> set[int]:
        return {(await client.get(path)).status for path in paths}

    assert await statuses() == {503}
    report = HealthReport("live", 0, None)
    server.handle(Ping(report, leads_until=boot_time() + 60))
    assert await statuses() == {404, 200}
    serial = (await (await client.get("/live/events/now")).json())["serial"]
    held = asyncio.create_task(client.get(f"/live/events/{serial}"))
    await eventually(lambda: server.event_stream.held.waiting)
    server.handle(Ping(report, leads_until=0.0))
    server.event_stream.held.add()
    answer = await held
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert await statuses() == {503}
    assert (await client.get("/health")).status == 200
    server.handle(Ping(report))
    assert await statuses() == {404, 200}
