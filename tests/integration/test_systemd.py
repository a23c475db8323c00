"""The units as systemd's own tools judge them, and the service as they start it."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, free_ports
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.fakes.systemd import Ears
from tests.support.length import SOAK
from tests.support.waiting import PATIENCE, eventually

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "deploy/systemd"
UNIT, TEMPLATE = UNITS / "broadcaster.service", UNITS / "broadcaster@.service"
RELAY = UNITS / "broadcaster-relay.service"
EXPOSURE_LIMIT = 2.0
MULTIVARIANT = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n"

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


def directives(unit: Path) -> dict[str, list[str]]:
    """What a unit sets, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str | Path) -> str:
    """What systemd-analyze says, which must be content."""
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", [UNIT, TEMPLATE, RELAY], ids=["service", "instances", "relay"])
def test_exposure(unit: Path) -> None:
    """Systemd's own judgement of the sandbox is 2.0 or better."""
    said = analyze("security", "--offline=true", "--no-pager", unit)
    figure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert figure
    assert float(figure[1]) <= EXPOSURE_LIMIT, said


@needs_systemd
@pytest.mark.parametrize("name", ["broadcaster.service", "broadcaster@second.service"])
@pytest.mark.parametrize("links", [False, True], ids=["alone", "with-links"])
def test_verify(tmp_path: Path, name: str, *, links: bool) -> None:
    """Systemd finds nothing to complain of in the units, nor in the drop-in for hard links."""
    scripts = Path(sys.executable).parent  # the program of an installation that is not there
    for unit in (UNIT, TEMPLATE):
        text = unit.read_text().replace("/opt/broadcaster/current/bin", str(scripts))
        (tmp_path / unit.name).write_text(text)
    if links:
        (tmp_path / f"{name}.d").mkdir()
        shutil.copy(UNITS / "links.conf", tmp_path / f"{name}.d/20-links.conf")
    assert analyze("verify", tmp_path / name) == ""


def test_the_instances_differ_in_their_names_alone() -> None:
    """What is hardened in one unit is hardened in the other."""
    single, many = directives(UNIT), directives(TEMPLATE)
    differing = {name for name in single | many if single.get(name) != many.get(name)}
    assert differing == {"Description", "EnvironmentFile", "Environment", "StateDirectory"}
    assert set(many["Environment"]) - set(single["Environment"]) == {
        "BROADCASTER_STATE_DIR=%S/broadcaster-%i"
    }


def test_stopping_takes_longer_than_draining() -> None:
    """Systemd waits longer than the service may drain; the watchdog longer than ingest may be silent."""
    unit = directives(UNIT)
    assert int(unit["TimeoutStopSec"][0]) > 10 + 5
    assert int(unit["WatchdogSec"][0]) > 2 * 5


def test_what_memory_costs() -> None:
    """One process that the kernel ends for its memory does not end its unit; limits may be set."""
    for unit in (UNIT, TEMPLATE, RELAY):
        assert directives(unit)["OOMPolicy"] == ["continue"]
    allowed = {name for line in directives(UNIT)["SystemCallFilter"] for name in line.split()}
    assert allowed >= {"setrlimit", "prlimit64"}


class Installation:
    """What deploy/install.sh makes, below ``root`` instead of ``/``."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self._environment = environment

    def install(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [REPOSITORY / "deploy/install.sh"],
            env={"PYTHON": sys.executable, **self._environment, **environment, "DESTDIR": str(self.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def install_at_terminal(self, typed: str, **environment: str) -> str:
        """What it says to somebody who types this."""
        return subprocess.run(
            ["script", "--quiet", "--command", REPOSITORY / "deploy/install.sh", "/dev/null"],
            env={**self._environment, **environment, "DESTDIR": str(self.root), "PYTHON": sys.executable},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    def unit(self) -> dict[str, list[str]]:
        return directives(self.root / "etc/systemd/system/broadcaster.service")

    def files(self) -> dict[str, str]:
        """The operator's files: settings and credentials."""
        folder = self.root / "etc/broadcaster"
        return {
            str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()
        }

    def command(self) -> list[str]:
        return [f"{self.root}{word}" if word[0] == "/" else word for word in self._words()]

    def environment(self, credentials: Path) -> dict[str, str]:
        """The environment that the unit asks for; its credentials are put into a folder."""
        unit = self.unit()
        credentials.mkdir(mode=0o700, exist_ok=True)
        for credential in unit["LoadCredential"]:
            name, _, path = credential.partition(":")
            shutil.copy(f"{self.root}{path}", credentials / name)
        lines = [
            variable.replace("%S", "/var/lib").replace("=/", f"={self.root}/")
            for variable in unit["Environment"]
        ]
        lines += (self.root / unit["EnvironmentFile"][0].lstrip("/")).read_text().splitlines()
        pairs = (line.partition("=") for line in lines if line and line[0] != "#")
        return {"CREDENTIALS_DIRECTORY": str(credentials), **{name: value for name, _, value in pairs}}

    def _words(self) -> list[str]:
        return shlex.split(self.unit()["ExecStart"][0])


@pytest.fixture
def installation(tmp_path: Path, bucket: SeaweedBucket) -> Installation:
    """An installation that is asked for, with the settings in the environment, and not made yet."""
    (tmp_path / "hls").mkdir()
    (tmp_path / "root").mkdir()
    inherited = {
        name: os.environ[name] for name in os.environ if not name.startswith(("R2_", "BROADCASTER_"))
    }
    settings = {
        "BROADCASTER_HLS_DIR": str(tmp_path / "hls"),
        "R2_ENDPOINT_URL": bucket.endpoint_url,
        "R2_BUCKET": bucket.bucket,
        "R2_PUBLIC_URL": bucket.public_url,
        "R2_ACCESS_KEY_ID": bucket.access_key_id,
        "R2_SECRET_ACCESS_KEY": bucket.secret_access_key,
        "PIP_NO_COMPILE": "1",  # which takes most of the time, and what is run is compiled anyway
    }
    return Installation(tmp_path / "root", {**inherited, **settings})


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Ears]:
    ears = Ears(tmp_path / "notify")
    yield ears
    ears.close()


def test_a_missing_setting_is_named(installation: Installation) -> None:
    """Without a terminal to ask at, the installer says which setting it wants, and leaves the rest alone."""
    done = installation.install(R2_BUCKET="")
    assert done.returncode == 1
    assert "R2_BUCKET is missing" in done.stderr
    assert not (installation.root / "opt").exists()


@pytest.mark.parametrize(
    ("answer", "header"),
    [("cloudflare", "cf-connecting-ip"), ("nginx", "x-forwarded-for"), ("nothing", "none"), ("", None)],
)
def test_what_stands_in_front_is_asked(installation: Installation, answer: str, header: str | None) -> None:
    """At a terminal the installer asks what tells a viewer's address; without an answer nothing is set."""
    said = installation.install_at_terminal(f"{answer}\n\n", BROADCASTER_HLS_DIR="/nowhere")
    assert "What stands in front of it" in said
    assert "there is no folder /nowhere" in said  # what comes next, so that it does not take long
    settings = (installation.root / "etc/broadcaster/broadcaster.env").read_text()
    found = re.findall(r"^BROADCASTER_TRUSTED_HEADER=(.*)$", settings, re.MULTILINE)
    assert found == ([header] if header else [])


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_install installs into a systemd that runs")
@pytest.mark.takes(60)
async def test_install_and_run(
    tmp_path: Path, installation: Installation, systemd: Ears, bucket: SeaweedBucket
) -> None:
    """An installation of what pip and npm bring runs by the unit's own command line."""
    done = await asyncio.to_thread(installation.install)
    assert done.returncode == 0, done.stdout + done.stderr
    files = installation.files()
    assert bucket.secret_access_key not in done.stdout + done.stderr
    for name in ("broadcaster.env", "credentials", "credentials/R2_SECRET_ACCESS_KEY"):
        mode = (installation.root / "etc/broadcaster" / name).stat().st_mode
        assert mode & 0o077 == 0, f"others can read {name}"
    assert [name for name, text in files.items() if bucket.secret_access_key in text] == [
        "credentials/R2_SECRET_ACCESS_KEY"
    ]

    port, admin_port = free_ports(2)
    log = tmp_path / "journal"
    log.touch()
    environment = {
        **installation.environment(tmp_path / "credentials"),
        "BROADCASTER_PORT": str(port),
        "BROADCASTER_ADMIN_PORT": str(admin_port),
        "NOTIFY_SOCKET": str(systemd.path),
        "WATCHDOG_USEC": "400000",
        "JOURNAL_STREAM": f"{log.stat().st_dev}:{log.stat().st_ino}",
    }
    child = await Child.start("broadcaster", installation.command(), log, env=environment)
    try:
        assert await systemd.hear() == "READY=1"
        assert await systemd.hear() == "WATCHDOG=1"
        await publish(tmp_path / "hls", f"http://127.0.0.1:{port}")
        held = psutil.Process(child.pid).environ().values()
        assert {bucket.secret_access_key, bucket.access_key_id}.isdisjoint(held)
        assert bucket.bucket in held
        # The unit's own umask is not in force here: what is written is nobody else's all the same. Links in
        # the spool are the source's files.
        state = installation.root / "var/lib/broadcaster"
        written = [path.stat() for path in state.rglob("*") if path.is_file()]
        assert written
        assert not any(file_status.st_mode & 0o077 for file_status in written if file_status.st_nlink == 1)
    finally:
        assert await child.stop(grace=PATIENCE) == 0
    await systemd.until("STOPPING=1")
    lines = log.read_text().splitlines()
    assert lines
    assert all(re.match(r"<[2-7]>\D", line) for line in lines), lines


async def publish(hls: Path, address: str) -> None:
    """A stream goes through, to the page that was installed."""
    HlsWriter(hls / "0").write(range(3))
    (hls / "stream.m3u8").write_text(MULTIVARIANT)

    async with aiohttp.ClientSession() as session:

        async def playlist() -> str:
            async with session.get(f"{address}/live/playlist.m3u8") as response:
                return await response.text()

        await eventually(playlist, lambda text: "stream-abc-2.ts" in text)
        async with session.get(f"{address}/") as response:
            assert response.status == 200
            (script,) = re.findall(r'type="module" src="([^"]+)"', await response.text())
        async with session.get(f"{address}/{script}") as response:
            assert response.status == 200
            assert "immutable" in response.headers["Cache-Control"]
