"""The container of deploy/container, built by buildah and run by runc; both need root.

CONTAINER_BUILD has further options for ``buildah build``, e.g. other base images.
"""

import asyncio
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.servers.service import Service
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = shlex.split(os.environ.get("CONTAINER_BUILD", ""))
IMAGE, NAME, USER = "localhost/broadcaster-test", "broadcaster-test", 101
LARGEST = 200  # MB
MISSING = [program for program in ("buildah", "runc") if not shutil.which(program)]
pytestmark = [
    pytest.mark.skipif(not SOAK, reason="building the image takes minutes: make soak"),
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=f"needs root, and misses {MISSING}"),
]


def buildah(*arguments: str) -> str:
    """Run it; returns what it prints."""
    done = subprocess.run(["buildah", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def image() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The image's files, and its configuration."""
    try:
        buildah(
            *("build", "--isolation", "chroot", "--network", "host", *OPTIONS),
            *("--file", "deploy/container/Containerfile", "--tag", IMAGE, "."),
        )
    except subprocess.CalledProcessError as error:
        if "initializing source" in error.stderr:  # of a base image
            pytest.skip("the base images cannot be pulled here: CONTAINER_BUILD can name others")
        raise AssertionError(error.stderr[-3000:]) from None
    container = buildah("from", IMAGE)
    try:
        inspected = json.loads(buildah("inspect", "--type", "image", IMAGE))
        yield Path(buildah("mount", container)), inspected["OCIv1"]["config"]
    finally:
        buildah("rm", container)
        buildah("rmi", IMAGE)


def bundle(folder: Path, root: Path, config: dict[str, Any], settings: dict[str, str]) -> None:
    """Write the configuration for runc: what the image says, a root that is read-only, no capabilities."""
    subprocess.run(["runc", "spec", "--bundle", folder], check=True)
    spec = json.loads((folder / "config.json").read_text())
    ours = {**settings, "BROADCASTER_STATE_DIR": "/data", "BROADCASTER_HLS_DIR": "/owncast/hls"}
    spec["root"] = {"path": str(root), "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "args": config["Cmd"],
        "cwd": config["WorkingDir"],
        "env": [*config["Env"], *(f"{name}={value}" for name, value in ours.items())],
        # The simulated Owncast is this process's user, who opens its folders to its group.
        "user": {"uid": USER, "gid": USER, "additionalGids": [os.getgid()]},
        "capabilities": {},
    }
    spec["linux"]["namespaces"] = [
        space
        for space in spec["linux"]["namespaces"]
        if space["type"] != "network"  # the bucket's is ours
    ]
    spec["mounts"] += [
        {"destination": "/data", "type": "bind", "source": str(folder / "data"), "options": ["bind", "rw"]},
        {
            "destination": "/owncast",
            "type": "bind",
            "source": str(folder / "owncast"),
            "options": ["bind", "ro"],
        },
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
    ]
    (folder / "config.json").write_text(json.dumps(spec))


def prepare(folder: Path) -> None:
    """The volume, and the folder that Owncast's is in."""
    (folder / "data").mkdir(0o700)
    os.chown(folder / "data", USER, USER)
    (folder / "owncast").mkdir(0o750)


async def listed(session: aiohttp.ClientSession, service: Service) -> dict[int, str]:
    """Segments of the first variant's playlist, by number."""
    async with session.get(f"{service.address}/live/0/playlist.m3u8") as response:
        if response.status != 200:
            return {}
        playlist = parse(await response.text())
    assert isinstance(playlist, MediaPlaylist)
    return dict(enumerate((segment.uri for segment in playlist.segments), playlist.media_sequence))


async def test_the_container_plays_drains_and_survives(
    tmp_path: Path, bucket: SeaweedBucket, image: tuple[Path, dict[str, Any]]
) -> None:
    """Without root, on a read-only root: page and stream, the stream after kill -9, drained by SIGTERM."""
    root, config = image
    (size, unit) = json.loads(buildah("images", "--json", IMAGE))[0]["size"].split()
    assert unit == "MB"
    assert float(size) < LARGEST
    assert config["User"] == f"{USER}:{USER}"
    hls = tmp_path / "owncast" / "hls"
    prepare(tmp_path)
    service = Service(tmp_path, hls, bucket, BROADCASTER_WINDOW_SECONDS="300")
    bundle(tmp_path, root, config, service.environment)
    service.command = ["runc", "run", "--bundle", str(tmp_path), NAME]

    def runc(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["runc", *arguments], check=False, capture_output=True, text=True)

    try:
        async with SimulatedOwncast(hls, tmp_path / "encoder") as owncast, aiohttp.ClientSession() as session:
            await owncast.go_live()
            await service.start()
            first = await eventually(lambda: listed(session, service), lambda found: len(found) > 2)
            async with session.get(f"{service.address}/") as response:
                assert "<video" in await response.text()
            inside = json.loads(runc("state", NAME).stdout)["pid"]
            assert psutil.Process(inside).uids().real == USER
            health = (ROOT / "deploy/container/Containerfile").read_text().partition("HEALTHCHECK")[2]
            command = json.loads(health.partition("CMD")[2].splitlines()[0])
            probe = await asyncio.to_thread(runc, "exec", NAME, *command)
            assert probe.returncode == 0, probe.stderr
            runc("kill", NAME, "KILL")
            assert service.child
            assert await service.child.wait() != 0
            await service.start()
            later = await eventually(
                lambda: listed(session, service), lambda found: bool(found) and max(found) > max(first) + 2
            )
            shared = first.keys() & later.keys()
            assert shared, (first, later)
            assert all(first[number] == later[number] for number in shared)
            assert await service.stop() == 0
        waiting = [path for path in (tmp_path / "data").rglob("*.ts") if path.is_file()]
        assert waiting == [], "all that was found is in the bucket"
    finally:
        runc("kill", NAME, "KILL")
        runc("delete", "--force", NAME)
