"""What viewers who mean no good can do to the shipped nginx configuration, and to whom it serves."""

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broadcaster.demo.processes import free_ports
from tests.support.fakes.viewer_app import MEDIA, ViewerApp
from tests.support.servers.edge import running_edge
from tests.support.servers.edge_fixture import Front, serving

VARIANTS_OF_THE_QUERY = 300
# What the shipped file has commented out, for operators to switch on.
EXAMPLES = (
    "limit_conn_zone ",
    "limit_req_zone ",
    "limit_req ",
    "limit_conn_status ",
    "limit_req_status ",
)
STRANGER = "127.0.0.2"  # the file believes 127.0.0.1, where cloudflared is
ADDRESS_HEADERS = ("X-Forwarded-For", "CF-Connecting-IP")
OWN = ("/live/events", "/live/tracker", "/live/beacon", "/live/clips")
SHARED = ("/live/playlist.m3u8", f"{MEDIA}?_HLS_msn=1", "/", "/config.json")


@pytest.mark.parametrize(
    ("spelling", "path"),
    [
        ("//main.js", "/main.js"),
        ("/%2Fmain.js", "/main.js"),
        ("/x/%2e%2e/main.js", "/main.js"),
        ("/x/../config.json", "/config.json"),
        ("/x/..%2Fconfig.json", "/config.json"),
        ("/%63onfig.json?x", "/config.json"),
    ],
)
async def test_no_spelling_of_a_path_spoils_the_page(front: Front, spelling: str, path: str) -> None:
    """What is kept for everybody is the answer to the path as nginx reads it, whatever a viewer wrote."""
    await front.get(spelling, **{"Range": "bytes=0-1", "If-None-Match": "*"})
    status, body, headers = await front.get(path, **{"Accept-Encoding": "identity"})
    assert (status, headers["X-Cache"]) == (200, "HIT")
    assert body.startswith(b"{" if path.endswith("json") else b"export")


async def test_the_query_cannot_multiply_requests(front: Front) -> None:
    """Of a query, only directives with a proper value make a request of their own."""
    known = ("", "?_HLS_msn=1", "?_HLS_skip=YES", "?_HLS_msn=1&_HLS_part=0")
    for query in known:
        assert (await front.get(MEDIA + query))[0] == 200
    kinds = (
        "?{}",
        "?_HLS_msn=0{}",
        "?_HLS_msn=1{}x&y={}",
        "?_HLS_msn=%31{}",
        "?_HLS_msn=1&_HLS_push={}",
        "?_HLS_msn=1&_HLS_part={}",
        "?_HLS_skip=YES{}",
        "?_HLS_skip=yes&x={}",
        "?_HLS_skip=YES&_HLS_skip={}",
        "?_HLS_part=%30{}",
    )
    for number in range(VARIANTS_OF_THE_QUERY):
        query = kinds[number % len(kinds)].replace("{}", str(number))
        assert (await front.get(MEDIA + query))[0] == 200, query
    assert front.asked() == len(known)


async def test_one_address_can_be_bounded(tmp_path: Path) -> None:
    """With the examples switched on, who asks too much is refused, others behind the tunnel are not."""
    site, (port,) = ViewerApp(tmp_path), free_ports(1)
    site.go_live("0", "1")
    switched_on = {f"# {example}": example for example in EXAMPLES}
    fewer = {
        "# limit_conn broadcaster_site 1000;": "limit_conn broadcaster_site 3;",
        "rate=200r/s;": "rate=1r/s;",
        "burst=2000 ": "burst=50 ",
    }
    async with (
        serving(site, port),
        running_edge(tmp_path, f"http://127.0.0.1:{port}", switched_on | fewer) as edge,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        contextlib.AsyncExitStack() as stack,
    ):

        async def events(viewer: str) -> int:
            headers = {"CF-Connecting-IP": viewer}
            answer = await stack.enter_async_context(
                session.get(f"{edge.address}/live/events", headers=headers)
            )
            return answer.status

        async with session.get(f"{edge.address}/health", headers={"CF-Connecting-IP": "8.8.8.8"}) as answer:
            assert answer.headers["X-Client-Address"] == "8.8.8.8"
        assert [await events("192.0.2.1") for _ in range(4)] == [200, 200, 200, 429]
        assert await events("192.0.2.2") == 200

        front = Front(site, edge, session)
        flood = await asyncio.gather(
            *(front.get(MEDIA, **{"CF-Connecting-IP": "192.0.2.3"}) for _ in range(200))
        )
        assert {status for status, _, _ in flood} == {200, 429}
        assert (await front.get(MEDIA, **{"CF-Connecting-IP": "192.0.2.4"}))[0] == 200


async def test_the_service_has_the_address_of_a_viewer_from_nginx_alone(tmp_path: Path) -> None:
    """What is one viewer's own has the address that nginx sees; what is shared has nothing of a viewer."""

    async def echo(request: web.Request) -> web.Response:
        return web.json_response({name: request.headers.get(name) for name in ADDRESS_HEADERS})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    lies = {"X-Forwarded-For": "192.0.2.1", "CF-Connecting-IP": "192.0.2.2"}
    stranger = aiohttp.TCPConnector(local_addr=(STRANGER, 0))
    async with (
        TestServer(app) as origin,
        running_edge(tmp_path, str(origin.make_url("/"))) as edge,
        aiohttp.ClientSession(headers=lies, connector=stranger) as session,
    ):
        for paths, address in ((OWN, STRANGER), (SHARED, None)):
            for path in paths:
                async with session.get(edge.address + path) as answer:
                    assert await answer.json() == {"X-Forwarded-For": address, "CF-Connecting-IP": None}, path
