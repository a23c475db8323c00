"""The tunnel's example configuration: its rules, applied as cloudflared does, to every route there is."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.admin import Dashboard, History, make_operator_app
from broadcaster.bucket.client import CONTENT_TYPES
from broadcaster.http.server import KEEPALIVE_TIMEOUT
from broadcaster.http.static import PACKED
from broadcaster.ipc.messages import HealthReport, Setup
from broadcaster.own_files import DASHBOARD_DIR, VIEWER_DIR
from broadcaster.viewer_server.app import ViewerServer
from tests.support.servers.built_page import largest

EXAMPLE = Path(__file__).parents[2] / "cloudflared.yml.example"
HOST = "live.example.com"
CLOSED = "http_status:404"
FOLDERS = {
    "viewer": [("", VIEWER_DIR)],
    "dashboard_files": [("", DASHBOARD_DIR), ("vendor/", VIEWER_DIR / "vendor")],
}
VARIANTS = ("0", "12", "720p-main", "audio_low.v2")


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def public_app() -> web.Application:
    """What viewers get, with everything switched on that may be public."""
    return ViewerServer(Setup(VIEWER_DIR, tracker=True, recordings=True, clips=True)).app


def operator_app() -> web.Application:
    registry = CollectorRegistry()
    dashboard = Dashboard(DASHBOARD_DIR, VIEWER_DIR / "vendor", History(registry, now).since, 0.09)
    return make_operator_app(lambda: HealthReport("offline", 0, None), registry, dashboard)


def paths(app: web.Application) -> Iterator[str]:
    """Every path that an application answers: variants by some names, folders by their files."""
    for resource in app.router.resources():
        info = resource.get_info()
        if "path" in info:
            yield info["path"]
        elif "{variant}" in info["formatter"]:
            yield from (info["formatter"].replace("{variant}", name) for name in VARIANTS)
        elif "{serial}" in info["formatter"]:
            yield from (info["formatter"].replace("{serial}", name) for name in ("now", "1795601840002"))
        elif "{id}" in info["formatter"]:
            yield info["formatter"].replace("{id}", "2026-11-22-0912-k3f9")
        elif resource.name in FOLDERS:
            for prefix, folder in FOLDERS[resource.name]:
                files = (
                    path.relative_to(folder)
                    for path in folder.rglob("*")
                    if path.is_file() and path.suffix not in PACKED.values()
                )
                yield from (info["formatter"].replace("{path}", f"{prefix}{file}") for file in files)
            yield info["formatter"].replace("{path}", "")
        else:
            # Answers for the other paths alone, so that a page of another origin may ask for them.
            assert (resource.name, info["formatter"]) == ("preflight", "/live/{path}")


def rules() -> list[dict[str, Any]]:
    ingress = yaml.safe_load(EXAMPLE.read_text())["ingress"]
    assert isinstance(ingress, list)
    return ingress


def route(path: str, host: str = HOST) -> str:
    """The service of the first rule that matches (cloudflared's ingress/rule.go: MatchString, a search)."""
    for rule in rules():
        # Go's $ is the end of the text; Python's also stands before a last line feed.
        pattern = rule.get("path", "").replace("$", r"\Z")
        if rule.get("hostname", host) == host and re.search(pattern, path, re.ASCII):
            return str(rule["service"])
    raise AssertionError("no rule catches all")


PUBLIC, OPERATOR = set(paths(public_app())), set(paths(operator_app()))


def test_the_routes_are_those_of_the_service() -> None:
    """What is checked below is everything: playlists, events, page on one side, metrics on the other."""
    assert {"/", "/config.json", "/live/playlist.m3u8", "/live/events", "/live/tracker"} <= PUBLIC
    assert {"/recordings", "/watch/2026-11-22-0912-k3f9", "/c/2026-11-22-0912-k3f9"} <= PUBLIC
    assert {"/live/12/playlist.m3u8", "/live/beacon", "/live/clips", "/config.json", largest()} <= PUBLIC
    assert {"/metrics", "/dashboard", "/dashboard/", "/dashboard/data.json"} <= OPERATOR
    assert not PUBLIC & OPERATOR - {"/health"}


def test_public_routes_pass() -> None:
    """What a viewer needs goes to the public listener, under the right name alone."""
    assert {path: route(path) for path in PUBLIC} == dict.fromkeys(PUBLIC, "http://127.0.0.1:3000")
    assert {route(path, "other.example.com") for path in PUBLIC} == {CLOSED}


def test_the_operators_routes_are_closed() -> None:
    """Metrics and dashboard are 404, with a slash at the end, too."""
    closed = OPERATOR - PUBLIC
    assert {path: route(path) for path in closed} == dict.fromkeys(closed, CLOSED)
    assert {route(path.rstrip("/") + "/") for path in closed} == {CLOSED}


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/../live/playlist.m3u8",
        "//metrics",
        "/live/../metrics",
        "/live/0/../../metrics",
        "/live/0/1/playlist.m3u8",
        "/live//playlist.m3u8",
        "/live/playlist.m3u8/",
        "/live/playlist.m3u8\n",
        "/x/live/playlist.m3u8",
        "/js/../metrics",
        "/js/../dashboard/data.json",
        "/dashboard/js/main.js",
        "/.env",
        "/.git/config.json",
        "/js/.hidden.js",
        "/journal.db",
        "/live",
        "/health/",
        "/watch/",
        "/watch/../metrics",
        "/c/x/y",
        "/debug/pprof",
        "/live/" + "v" * 65 + "/playlist.m3u8",
    ],
)
def test_everything_else_is_closed(path: str) -> None:
    """No spelling of a path reaches what is not for viewers."""
    assert route(path) == CLOSED


def test_the_file_is_one_that_cloudflared_takes() -> None:
    """Its rules keep to what cloudflared checks: a catch-all at the end alone, services without a path."""
    *others, last = rules()
    assert last == {"service": CLOSED}
    for rule in others:
        assert set(rule) == {"hostname", "path", "service"}
        assert ":" not in rule["hostname"]
        assert re.fullmatch(r"http_status:\d{3}|https?://[^/]+", rule["service"])
        assert "(?" not in rule["path"], "written alike in Go and in Python without extensions"
        assert not re.search(r"\\[^.]", rule["path"]), "so are escapes of punctuation"


def test_the_service_keeps_connections_longer() -> None:
    """The side that closes an idle connection first must be the tunnel's."""
    keep_alive = yaml.safe_load(EXAMPLE.read_text())["originRequest"]["keepAliveTimeout"]
    assert keep_alive == "90s"
    assert KEEPALIVE_TIMEOUT > 90


def test_the_cache_rules_know_every_kind_of_object() -> None:
    """The cache rules, in words and in Terraform, cover exactly the objects that the service stores."""
    suffixes = {suffix[1:] for suffix in CONTENT_TYPES} | {"m3u8"}
    rules = (EXAMPLE.parent / "deploy/cloudflare/cache-rules.tf").read_text()
    listed = re.search(r"extension in \{([^}]*)\}", rules)
    assert listed
    assert set(re.findall(r"\w+", listed[1])) == suffixes
    words = (EXAMPLE.parent / "deploy/cloudflare/README.md").read_text()
    (row,) = (line for line in words.splitlines() if line.startswith("| segments"))
    assert suffixes <= set(re.findall(r"\w+", row))
