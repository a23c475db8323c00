"""The edge's Worker in workerd, with the real service pushing to it."""

import json
import os
import subprocess
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.edge import VERSION
from broadcaster.viewer_server.pages import NEWEST
from tests.conformance.test_conformance import Encoder
from tests.support.judges.check_command import examine, settings_of
from tests.support.servers.service import running_service
from tests.support.servers.worker import WORKER, require_worker, running_worker
from tests.support.waiting import eventually
from tests.unit.edge.test_publisher import pushing, until
from tests.unit.viewer_server.test_pages_recordings import recording

PATHS = ("live/playlist.m3u8", "live/0/playlist.m3u8", "live/1/playlist.m3u8", "live/1/kept.m3u8")


async def text_at(address: str, path: str) -> tuple[int, str]:
    """The status and the body that an address answers with."""
    async with aiohttp.ClientSession() as session, session.get(f"{address}/{path}") as response:
        return response.status, await response.text()


@pytest.mark.takes(15)
async def test_the_edge_shows_what_the_service_shows(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Playlists at the edge are those of the service, text for text, until the stream has ended."""
    encoder = Encoder(tmp_path / "hls", variants=2)
    settings = {"BROADCASTER_END_GRACE_SECONDS": "1", "BROADCASTER_TARGET_DURATION": "2"}

    async def same() -> bool:
        ours = [await text_at(service.address, path) for path in PATHS]
        return ours == [await text_at(worker.address, path) for path in PATHS]

    async with (
        running_worker(tmp_path) as worker,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings, **worker.settings) as service,
    ):
        assert await same()
        encoder.start("first")
        encoder.write(5)
        await service.until_health(stream="live", chunks=10)
        await eventually(same)
        async with encoder.live():
            await service.until_health(chunks=20)
        await eventually(same)
        encoder.idle()
        await service.until_health(stream="ended")
        await eventually(same)
        assert (await text_at(worker.address, PATHS[1]))[1].endswith("#EXT-X-ENDLIST\n")


@pytest.mark.parametrize("ahead", [-1, 1])
async def test_releases_meet(tmp_path: Path, ahead: int) -> None:
    """A newer Worker takes all pushes of the release before; one of before says which version it has."""
    (tmp_path / "config.json").write_text(json.dumps({"recordings": True, "pageUrl": "https://live.example"}))
    entries = [recording(number) for number in range(NEWEST + 1)]
    entry = entries[0]
    async with (
        running_worker(tmp_path, version=VERSION + ahead) as worker,
        pushing(tmp_path, worker.key, worker.address) as fed,
    ):
        fed.publish(3)
        if ahead > 0:
            await eventually(
                lambda: text_at(worker.address, PATHS[1]), lambda found: found[1].count("#EXTINF") == 3
            )
            fed.publish()
            fed.publisher.show_recordings({entry.path: entry for entry in entries})
            await eventually(
                lambda: text_at(worker.address, PATHS[1]), lambda found: found[1].count("#EXTINF") == 4
            )
            _, text = await eventually(
                lambda: text_at(worker.address, f"oembed{entry.path}"), lambda found: found[0] == 200
            )
            assert f"https://live.example{entry.path}?embed=1" in json.loads(text)["html"]
            newest = json.loads((await text_at(worker.address, "recordings/newest.json"))[1])["recordings"]
            assert [found["id"] for found in newest] == [entry.id for entry in entries[:0:-1]]
            assert f'/oembed{entry.path}">' in (await text_at(worker.address, entry.path[1:]))[1]
            assert (await text_at(worker.address, "oembed/watch/other"))[0] == 404
            await until(fed, fault="upgrade the service")
        else:
            await until(fed, fault="deploy the Worker of this release")
            assert (await text_at(worker.address, PATHS[1]))[0] == 404


@pytest.mark.takes(15)
async def test_the_check_of_the_edge(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """``broadcaster check --edge`` is content with a Worker that works, and names a wrong key."""
    (tmp_path / "hls").mkdir()
    async with running_worker(tmp_path) as worker:
        async with running_service(tmp_path, tmp_path / "hls", bucket, **worker.settings) as service:
            admin = {"BROADCASTER_ADMIN_PORT": service.environment["BROADCASTER_ADMIN_PORT"]}
            settings = {**settings_of(tmp_path, bucket), **worker.settings, **admin}
            found = await examine(tmp_path, settings, "--edge", "--json")
            edge = {name: check for name, check in found.checks.items() if name.startswith("edge-")}
            assert {check["verdict"] for check in edge.values()} == {"ok"}, found.output
            assert "woke" in edge["edge-trial"]["message"]
            assert "no request" in edge["edge-requests"]["message"]
            wrong = await examine(
                tmp_path, {**settings, "BROADCASTER_EDGE_KEY": "x" * 43}, "--edge", "--json"
            )
            wrong.says("edge-address", "failed", "refuses the key", "wrangler secret put EDGE_KEY")
            assert "x" * 43 not in wrong.output
        none = {**settings_of(tmp_path, bucket)}
        (await examine(tmp_path, none, "--edge", "--json")).says("edge-address", "failed", "not set", "set")


GATE = """
import { gateOf } from "%s/http.mjs";
let answer = null, asked = 0;
const fetch = async () => { asked++; if (!answer) throw new Error("moved"); return answer.clone(); };
const env = { STAGE: { getByName: () => ({ fetch }) } }, found = [];
const later = () => new Promise((go) => setTimeout(go, 1100));
const look = async (next) => {
  [answer, asked] = [next, 0];
  found.push([await Promise.all([gateOf(env), gateOf(env)]), asked]);
};
await look(null);
await look(Response.json("gate"));
await later();
await look(null);
await later();
await look(new Response("", { status: 404 }));
console.log(JSON.stringify(found));
"""


def test_the_gate_is_known_while_the_stage_is_away() -> None:
    """Once it is known, no request fails for want of the Stage, and one request in a second asks for it."""
    script = GATE % WORKER.as_posix()
    done = subprocess.run(
        ("node", "--input-type=module", "-e", script),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    unknown, known, away, public = json.loads(done.stdout)
    assert unknown == [[None, None], 4]  # each asks twice, and both are refused by the Worker
    assert known == [["gate", "gate"], 2]
    assert away == [["gate", "gate"], 2]
    assert public == [[None, "gate"], 1]


def test_the_worker_is_small() -> None:
    """The Worker has at most 400 lines, in at most four modules; at most 100 are wider than 120 columns."""
    modules = list(WORKER.glob("*.mjs"))
    lines = [line for module in modules for line in module.read_text().splitlines()]
    assert len(modules) <= 4
    assert len(lines) <= 400
    assert sum(len(line) > 120 for line in lines) <= 100


def test_the_worker_can_be_deployed(tmp_path: Path) -> None:
    """``wrangler deploy --dry-run`` bundles the Worker with its objects and the page, without a warning."""
    require_worker()
    wrangler = ("node", "node_modules/wrangler/bin/wrangler.js", "deploy", "--dry-run")
    done = subprocess.run(
        (*wrangler, f"--outdir={tmp_path}/out"),
        cwd=WORKER,
        env={**os.environ, "WRANGLER_SEND_METRICS": "false", "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    assert all(f"env.{name}" in done.stdout for name in ("STAGE", "TALLY", "SWARM", "ASSETS"))
