"""The doctor on a machine that is not as it should be, and through a tunnel that is not."""

from pathlib import Path

from aiohttp import web

from broadcaster.access.keeper import Keeper
from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.check_command import examine, listening, settings_of


async def test_faults_of_the_machine(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Names, listeners, page, open files and an open state folder: all that is wrong is named at once."""

    async def other(_: web.Request) -> web.Response:
        return web.json_response({"status": "UP"})

    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    async with listening(other) as address:
        settings = settings_of(
            tmp_path,
            bucket,
            BROADCASTER_PORT=address.rpartition(":")[2],
            BROADCASTER_ADMIN_HOST="0.0.0.0",
            BROADCASTER_VIEWER_DIR=str(tmp_path / "page"),
            BROADCASTER_WINDOW_SECOND="60",
        )
        found = await examine(tmp_path, settings, "--json", under=("prlimit", "--nofile=1024:1024"))
    found.says("names", "warning", "BROADCASTER_WINDOW_SECONDS is meant", ".env.example")
    found.says("operator", "warning", "0.0.0.0 opens dashboard and metrics", "127.0.0.1")
    found.says("addresses", "failed", "Address already in use", "BROADCASTER_PORT")
    found.says("page", "warning", f"{tmp_path}/page/index.html is not there", "BROADCASTER_VIEWER_DIR")
    found.says("open-files", "warning", "1024 open files", "LimitNOFILE=")
    found.says("open-files", "warning", "room for 960 connections of viewers, of", "ulimit -n")
    found.says("state-folder", "warning", "is open to other users (mode 755)", "chmod 700")
    inside = settings_of(tmp_path, bucket, BROADCASTER_STATE_DIR=str(tmp_path / "hls/state"))
    refused = await examine(tmp_path, inside, "--json")
    assert refused.status == 2
    refused.says("settings", "failed", "must not lie inside each other", ".env")


async def test_a_service_that_runs(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """An address that a broadcaster has is no fault; a passphrase that is not recognised in a flood is."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "chunks": 0, "manifestChunks": 0}, status=503)

    (tmp_path / "state").mkdir(mode=0o700)
    await Keeper(tmp_path / "state", peppers=[b"the bucket's key of before"]).set_passphrase("of some words")
    async with listening(health) as address:
        private = {"BROADCASTER_PORT": address.rpartition(":")[2], "BROADCASTER_ACCESS": "passphrase"}
        found = await examine(tmp_path, settings_of(tmp_path, bucket, **private), "--json")
    found.says("addresses", "ok", "a broadcaster runs at 127.0.0.1:", "")
    found.says("passphrase", "warning", "nobody has entered the passphrase since", "broadcaster passphrase")


async def test_through_the_tunnel(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """With --public the doctor asks as the world does, and finds what should not be open."""

    async def everything(_: web.Request) -> web.Response:
        return web.Response(text="# HELP up")

    async with listening(everything) as address:
        found = await examine(tmp_path, settings_of(tmp_path, bucket), "--json", "--public", f"{address}/x")
    found.says("tunnel-page", "failed", "there is no page", "cloudflared.yml.example")
    found.says("tunnel-playlist", "failed", "the answer is not a playlist", "cloudflared.yml.example")
    found.says("tunnel-closed", "failed", f"anybody can read {address}/metrics", "BROADCASTER_ADMIN_PORT")
