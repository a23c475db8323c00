"""Rules and dashboard, held by Debian's real Prometheus against the metrics of the running service."""

import asyncio
import json
import math
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, free_ports, poll
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.relay import relaying
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
CONFIG, RULES, RULE_TESTS = (
    DEPLOY / "prometheus" / name for name in ("prometheus.yml", "rules.yml", "rules.test.yml")
)
DASHBOARD = DEPLOY / "grafana/broadcaster.json"
MULTIVARIANT = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n"
RATE_INTERVAL = "20s"  # many of the test's scrapes

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="Prometheus is not installed"
)


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What promtool says, which must be content."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of each query of the dashboard, its variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".*")
            assert "$" not in query, "a variable that Grafana may know and this test does not"
            yield panel["title"], query


def test_promtool_is_content() -> None:
    """Configuration and rules are valid, and the rules do in each case what their tests say."""
    promtool("check", "config", CONFIG)
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULE_TESTS)


def test_each_alert_is_seen_firing_and_not_firing() -> None:
    """No alert goes without a case in which it fires and one in which it does not."""
    firing: set[str] = set()
    quiet: set[str] = set()
    for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (firing if case["exp_alerts"] else quiet).add(case["alertname"])
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert firing == alerts
    assert quiet == alerts


class Prometheus:
    """A real one, which scrapes a service each second."""

    def __init__(self, child: Child, address: str) -> None:
        self.child = child
        self._address = address

    async def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._address}/api/v1/{path}", params=parameters) as response,
        ):
            answer = await response.json()
            assert answer["status"] == "success", answer
            return answer["data"]

    async def has_data(self, query: str) -> bool:
        """Whether a query has a result that is a number."""
        result = (await self.ask("query", query=query))["result"]
        return any(not math.isnan(float(sample["value"][1])) for sample in result)

    async def firing(self) -> set[str]:
        alerts = (await self.ask("alerts"))["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def is_ready(self) -> bool:
        try:
            await self.ask("query", query="up")
        except (aiohttp.ClientConnectionError, aiohttp.ContentTypeError):
            return False
        return True


@asynccontextmanager
async def running_prometheus(folder: Path, *addresses: str) -> AsyncIterator[Prometheus]:
    """The shipped configuration and rules, with other targets, and hours made seconds."""
    target = "', '".join(address.removeprefix("http://") for address in addresses)
    config = CONFIG.read_text().replace("127.0.0.1:3001", target).replace("_interval: 10s", "_interval: 1s")
    assert target in config
    (folder / "prometheus.yml").write_text(config)
    text = re.sub(r"^( +interval): \w+$", r"\1: 1s", RULES.read_text(), flags=re.MULTILINE)
    (folder / "rules.yml").write_text(re.sub(r"^( +for): \w+$", r"\1: 2s", text, flags=re.MULTILINE))
    (port,) = free_ports(1)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    child = await Child.start("Prometheus", command, folder / "prometheus.log")
    prometheus = Prometheus(child, f"http://127.0.0.1:{port}")
    try:
        await child.until(poll(prometheus.is_ready), within=120)
        yield prometheus
    finally:
        await child.stop()


async def stream(service: Service, folder: Path) -> None:
    """Segments come, and a player polls, waits for the next one and reports, until cancelled."""
    writer = HlsWriter(folder / "0")
    async with aiohttp.ClientSession(service.address) as player:
        for number in range(10_000):
            writer.segment(number)
            writer.playlist(range(max(0, number - 5), number + 1))
            (folder / "stream.m3u8").write_text(MULTIVARIANT)
            async with player.get("/live/playlist.m3u8") as response:
                text = await response.text()
            if "#EXT-X-MEDIA-SEQUENCE" in text:
                await asyncio.gather(wait_for_the_next(player, text), asyncio.sleep(0.3))
            else:
                await asyncio.sleep(0.3)
            if number == 0:
                body = json.dumps({"httpBytes": 1000, "p2pBytes": 10, "uploadedBytes": 10, "seconds": 2})
                async with player.post("/live/beacon", data=body) as response:
                    assert response.status == 204


async def wait_for_the_next(player: aiohttp.ClientSession, text: str) -> None:
    """Ask for the first segment that is not listed; it is there already when the upload was quick."""
    first = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
    assert first
    following = int(first[1]) + text.count("#EXTINF")
    async with player.get("/live/playlist.m3u8", params={"_HLS_msn": str(following)}) as response:
        await response.read()


@pytest.mark.takes(20)
async def test_dashboard_and_rules_on_the_running_service(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Each panel's query returns data, each rule names metrics that exist, and a dead service is noticed."""
    settings = {
        "BROADCASTER_MIRROR": "true",
        "BROADCASTER_EDGE_URL": "http://127.0.0.1:9",  # nothing answers there
        "BROADCASTER_EDGE_KEY": "0" * 64,
    }
    async with (
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
        relaying(service.address) as relayed,
        running_prometheus(tmp_path, service.admin_address, relayed.admin) as prometheus,
    ):
        streaming = asyncio.create_task(stream(service, tmp_path / "hls"))
        missing = list(queries())
        assert len(missing) > 30

        async def without_data() -> list[tuple[str, str]]:
            assert not streaming.done(), streaming.exception()
            return [query for query in missing if not await prometheus.has_data(query[1])]

        try:
            await eventually(without_data, lambda missing: not missing, within=240)
        finally:
            streaming.cancel()
        known = set(await prometheus.ask("label/__name__/values"))
        for rule in rules():
            named = set(re.findall(r"(?:(?:instance|class):)?\b(?:broadcaster|process)_[\w:]+", rule["expr"]))
            assert named <= known, rule
        await check_metrics(service)
        await eventually(prometheus.firing, lambda alerts: "BroadcasterDown" not in alerts)
        await service.stop()
        await eventually(prometheus.firing, lambda alerts: "BroadcasterDown" in alerts)


async def check_metrics(service: Service) -> None:
    """What Prometheus's own linter thinks of names, types and help texts."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        text = await response.text()
    assert "broadcaster_live 1.0" in text
    assert await asyncio.to_thread(promtool, "check", "metrics", stdin=text) == ""
