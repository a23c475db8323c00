"""The operator's listener: who may ask it, and what a browser may do with its answers."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.admin import Lead, make_operator_app
from broadcaster.ipc.messages import HealthReport
from tests.support.fakes.viewer_app import ViewerApp


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:3001", 200),
        ("127.8.8.8:3001", 200),
        ("localhost:3001", 200),
        ("LOCALHOST", 200),
        ("[::1]:3001", 200),
        ("broadcaster.lan:3001", 200),
        ("evil.example", 421),
        ("evil.example:3001", 421),
        ("localhost.evil.example", 421),
        ("10.0.0.9:3001", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("a@localhost", 200),  # what stands before an @ is no host (RFC 3986, 3.2.1)
    ],
)
async def test_names(aiohttp_client: AiohttpClient, host: str, status: int) -> None:
    """A page whose name was pointed here reads nothing (DNS rebinding); no name that is ours is refused."""
    report = HealthReport("offline", 0, None)
    app = make_operator_app(lambda: report, CollectorRegistry(), names=["Broadcaster.lan"])
    client = await aiohttp_client(app)
    for path in ("/metrics", "/health", "/nothing"):
        response = await client.get(path, headers={"Host": host})
        assert response.status == (404 if path == "/nothing" and status == 200 else status)
        assert "HELP" not in await response.text() or status == 200


async def test_answers_are_for_nobody_else(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """In no frame, as no script, and without a word on what serves them."""
    client = await aiohttp_client(ViewerApp(tmp_path).operator_app)
    for path in ("/metrics", "/health", "/nothing"):
        headers = (await client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Server" not in headers


async def test_a_standby_manages_nothing(aiohttp_client: AiohttpClient) -> None:
    """The answer to a holder of the token says where commands for recordings and guests are given."""
    wanted = list[bool]()
    report = HealthReport("offline", 0, None)
    app = make_operator_app(
        lambda: report, CollectorRegistry(), lead=Lead("token", lambda: wanted.append(True))
    )
    client = await aiohttp_client(app)
    headers = {"Authorization": "Bearer token"}
    for method, path in (("POST", "access/invitations"), ("GET", "recordings"), ("DELETE", "bin/a")):
        assert (await client.request(method, f"/api/{path}")).status == 401
        answer = await client.request(method, f"/api/{path}", headers=headers)
        assert answer.status == 409
        assert "stands by" in (await answer.json())["error"]
    assert (await client.post("/api/lead", headers=headers)).status == 202
    assert wanted == [True]
