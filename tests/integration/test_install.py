"""deploy/install.sh on a Debian machine with systemd: install, upgrade, go back, remove.

What pip and npm would fetch is not fetched; the program in each release is this one, which the machine's own
Python runs.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiobotocore
import pytest

from broadcaster.catalog.schema import MIGRATIONS
from broadcaster.viewer_server.sandbox import landlock
from tests.integration.systemd_machine import SystemdMachine, systemd_machine
from tests.support.length import SOAK

REPOSITORY = Path(__file__).parents[2]
PACKAGES = Path(aiobotocore.__file__).parents[1]
PYTHON = Path("/usr/bin/python3")
COMMAND = "/usr/local/bin/broadcaster"
KEYS = {"R2_ACCESS_KEY_ID": "key", "R2_SECRET_ACCESS_KEY": "secret"}
SETTINGS = {
    "R2_ENDPOINT_URL": "http://127.0.0.1:1",
    "R2_BUCKET": "bucket",
    "R2_PUBLIC_URL": "http://127.0.0.1:1",
    **KEYS,
}
ENV = """
BROADCASTER_HLS_DIR="/srv/own cast/hls"
BROADCASTER_PORT=0
BROADCASTER_ADMIN_PORT='0'
R2_ENDPOINT_URL=http://127.0.0.1:1
R2_BUCKET="bucket" \nR2_PUBLIC_URL=http://127.0.0.1:1
"""
# Stands in for Python where a release is built: what it makes has a pip that does nothing, and the program.
BUILDER = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec /usr/bin/python3 "$@"
mkdir -p "$3/bin"
cp /srv/program "$3/bin/broadcaster"
ln -s /bin/true "$3/bin/pip"
"""
PROGRAM = """#!/bin/sh
# {mark}
cd /
PYTHONPATH=/srv/source:/srv/packages exec /usr/bin/python3 {how} "$@"
"""
GOOD = "-m broadcaster.cli"
FAILING = "-c 'raise SystemExit(1)'"
# A release whose journal has one schema more, and that ends before it is ready, or does so for some streams.
MIGRATING = """-c '
import os, sys
from pathlib import Path
from broadcaster.catalog import schema
later = (*schema.MIGRATIONS, "CREATE TABLE later (x TEXT) STRICT;")
schema.open_database.__defaults__ = (schema.SCHEMA, later)
if {fails}:
    schema.open_database(Path(os.environ["BROADCASTER_STATE_DIR"], "journal.db")).close()
    sys.exit(1)
from broadcaster.cli import main
sys.exit(main())
'"""
# A release in which the service's user is hostile, and leaves traps for root in its state folder.
HOSTILE = """-c '
import os, sys
from pathlib import Path
state = Path(os.environ["BROADCASTER_STATE_DIR"])
(state / "journal.db").rename(state / "moved")
(state / "journal.db").symlink_to("/etc/systemd/system/broadcaster.service.d")
(state / "journal.db.schema1.conf").write_text("[Service]\\nDynamicUser=no\\nUser=root\\n")
(state / "journal.db.schema2").symlink_to("/srv/root.db")
sys.exit(1)
'"""
FAILS = MIGRATING.format(fails="True")
FAILS_FOR_SECOND = MIGRATING.format(fails='"second" in os.environ["BROADCASTER_STATE_DIR"]')


def is_usable() -> bool:
    """Whether the machine's Python can use the packages of this one."""
    if not PYTHON.exists():
        return False
    done = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1].split(".")[:2] == [str(part) for part in sys.version_info[:2]]


class Host:
    """A machine on which install.sh can be run, with the folder of an Owncast."""

    def __init__(self, on: SystemdMachine) -> None:
        self.run, self.says = on.run, on.says
        assert self.run("mkdir", "-p", "/srv/own cast/hls").returncode == 0
        self.write("/srv/bin/npm", "#!/bin/sh\nmkdir -p dist\n", "755")
        self.write("/srv/builder", BUILDER, "755")
        self.write("/etc/broadcaster/broadcaster.env", ENV)

    def write(self, path: str, text: str, mode: str = "644") -> None:
        shell = 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && chmod "$3" "$1"'
        assert self.run("sh", "-c", shell, "sh", path, text, mode).returncode == 0

    def install(
        self, mark: str, how: str = GOOD, *arguments: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Install a release whose program is marked so."""
        self.write("/srv/program", PROGRAM.format(mark=mark, how=how), "755")
        path = "/srv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {**SETTINGS, **settings, "PYTHON": "/srv/builder", "PATH": path}
        return self.run("/srv/source/deploy/install.sh", *arguments, **environment)

    def runs(self, unit: str = "broadcaster") -> bool:
        return self.says("systemctl", "is-active", unit) == "active"

    def add_second(self, later: str = "") -> None:
        """A stream beside the first one, whose settings have another line once it runs."""
        settings = "/etc/broadcaster/second.env"
        self.write(settings, f"{ENV}R2_PREFIX=second\n")
        assert self.run("systemctl", "enable", "--quiet", "--now", "broadcaster@second").returncode == 0
        self.write(settings, f"{ENV}R2_PREFIX=second\n{later}\n")

    def schema(self, instance: str = "") -> int:
        """The version of a journal's schema, as its file says it (SQLite's file format, 1.3)."""
        journal = f"/var/lib/broadcaster{instance}/journal.db"
        return int(
            self.says(
                "sh", "-c", f"systemctl stop 'broadcaster*'; od -An -j60 -N4 --endian=big -td4 {journal}"
            )
        )

    @property
    def release(self) -> str:
        return self.says("sed", "-n", "s/^# //p", "/opt/broadcaster/current/bin/broadcaster")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if not is_usable():
        pytest.skip("the machine's own Python is of another version")
    with systemd_machine(
        tmp_path / "machine", {"/srv/source": REPOSITORY, "/srv/packages": PACKAGES}
    ) as package:
        yield Host(package)


@pytest.mark.takes(30)
def test_an_installation_from_its_first_release_to_its_removal(host: Host) -> None:
    """Its command works as the service does, a release changes no setting, the operator's files stay."""
    page = "http://127.0.0.1:2"
    settings = ENV.replace("ADMIN_PORT='0'", "ADMIN_PORT=3001")
    host.write("/etc/broadcaster/broadcaster.env", settings)
    done = host.install("one", BROADCASTER_PAGE_ADDRESS=page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (host.runs(), host.release) == (True, "one")
    assert "mend what has FAILED above" in done.stdout  # there is no bucket
    assert re.search(r"^FAILED .*http://127\.0\.0\.1:1", done.stdout, re.MULTILINE)
    host.write("/etc/broadcaster/second.env", settings.replace("3001", "3002") + "R2_PREFIX=second\n")
    host.run("systemctl", "start", "broadcaster@second")
    check_command(host, page)
    host.run("systemctl", "stop", "broadcaster@second")
    host.run("rm", "/etc/broadcaster/second.env")

    files = host.says("sh", "-c", "head -v -n -0 /etc/broadcaster/* /etc/broadcaster/credentials/*")
    done = host.install("two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (host.runs(), host.release) == (True, "two")
    assert host.says("sh", "-c", "head -v -n -0 /etc/broadcaster/* /etc/broadcaster/credentials/*") == files
    assert "secret" in files
    done = host.install("two", GOOD, "--uninstall")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not host.runs()
    assert host.run("test", "-e", COMMAND).returncode == 1
    assert host.says("systemctl", "list-unit-files", "--no-legend", "broadcaster*") == ""
    assert host.says("sh", "-c", "ls -d /opt/broadcaster /etc/systemd/system/*/broadcaster*") == ""
    assert host.says("ls", "/etc/broadcaster/credentials") == "\n".join(sorted(KEYS))
    assert host.schema() == len(MIGRATIONS) + 1
    assert "rm -rf /etc/broadcaster" in done.stdout


def check_command(host: Host, page: str) -> None:
    """The command looks at settings, keys and folders as the service does, beside it."""
    owner = host.says("stat", "-c", "%U", "/var/lib/private/broadcaster/journal.db")
    done = host.run(COMMAND, "check", "--json")
    assert done.returncode == 1, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("settings", "names", "operator", "hls-folder", "state-folder", "open-files"):
        assert found[name]["verdict"] == "ok", found[name]
    assert page in json.dumps(found)
    for which in ((), ("@second",)):
        done = host.run(COMMAND, *which, "recordings", "list")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = host.run(COMMAND, "recordings", "show", "$x %i \"'")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no such recording" in done.stderr
    assert host.says("stat", "-c", "%U", "/var/lib/private/broadcaster/journal.db") == owner
    assert host.run(COMMAND, "run").returncode == 2
    assert "usage: broadcaster" in host.says(COMMAND, "--help")
    assert host.runs()


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the test above updates and rolls back")
@pytest.mark.takes(30)
def test_a_release_that_does_not_start(host: Host) -> None:
    """The release before it runs again, with its unit files, and its journal, which the new release migrated.

    Links that the service's user has planted in the state folder lead root nowhere; no unit is made of them.
    """
    host.install("one")
    unit = "/etc/systemd/system/broadcaster.service"
    older = host.says("sh", "-c", f"echo '# as it was' >>{unit}; cat {unit}")
    done = host.install("two", FAILS)
    assert done.returncode == 1
    assert "journal.db is again what it was before the new release" in done.stdout
    assert (
        "broadcaster does not start with the new release; with the one before it run again: broadcaster"
        in (done.stderr)
    )
    assert (host.runs(), host.release) == (True, "one")
    assert host.says("cat", unit) == older
    assert host.says("systemctl", "show", "-P", "NeedDaemonReload", "broadcaster") == "no"
    assert host.schema() == len(MIGRATIONS) + 1

    host.run("systemctl", "start", "broadcaster")
    host.add_second()  # so that what ran with the new release is marked, too
    host.write("/srv/root.db", "root's own", "666")
    host.run("touch", "-d", "tomorrow", "/srv/root.db")
    done = host.install("three", HOSTILE)
    assert done.returncode == 1
    assert host.says("ls", "/etc/systemd/system/broadcaster.service.d") == "10-owncast.conf"
    assert host.says("systemctl", "show", "-P", "User", "broadcaster") == "broadcaster"
    assert host.says("cat", "/srv/root.db") == "root's own"
    assert host.says("find", "/run/systemd/system", "-name", "*restore*") == ""
    state = "/var/lib/private/broadcaster"
    assert (
        host.says("stat", "-c", "%F", f"{state}/journal.db", f"{state}/journal.db.schema2").split("\n")
        == ["symbolic link"] * 2
    )


@pytest.mark.takes(15)
@pytest.mark.skipif(not SOAK, reason="make soak runs it: another release does not start in the test above")
def test_two_streams_of_which_one_does_not_start(host: Host) -> None:
    """What already ran with the new release goes back as well, and its journal with it."""
    host.install("one")
    host.add_second()
    done = host.install("two", FAILS_FOR_SECOND)
    assert done.returncode == 1, done.stdout
    assert "broadcaster@second does not start with the new release" in done.stderr
    assert "run again: broadcaster@second broadcaster" in done.stderr
    assert done.stdout.count("journal.db is again what it was") == 2
    assert (host.runs(), host.runs("broadcaster@second"), host.release) == (True, True, "one")
    assert host.schema() == host.schema("-second") == len(MIGRATIONS) + 1


@pytest.mark.takes(15)
@pytest.mark.skipif(not SOAK, reason="make soak runs it: another release does not start in the test above")
def test_a_stream_that_is_broken_by_itself(host: Host) -> None:
    """One that starts with neither release keeps none of the others from the new one."""
    host.install("one")
    host.add_second("R2_PREFIX=../wrong")
    host.write("/etc/broadcaster/third.env", "BROADCASTER_HLS_DIR=/srv/none\n")
    done = host.install("two")
    assert done.returncode == 1, done.stdout
    assert "R2_PREFIX: must be made of letters" in done.stderr
    assert "third.env: BROADCASTER_HLS_DIR: there is no folder /srv/none" in done.stderr
    assert done.stderr.rstrip().endswith("run this again: broadcaster@second")
    assert (host.runs(), host.runs("broadcaster@second"), host.release) == (True, False, "two")


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the test above updates and rolls back")
@pytest.mark.takes(10)
def test_first_install_that_does_not_start(host: Host) -> None:
    """There is nothing to go back to, and it says so; once it is mended, the next run starts it."""
    host.run("rm", "/etc/broadcaster/broadcaster.env")  # it is made of what the environment says
    host.run("mkdir", folder := '/srv/own "cast"')
    done = host.install("one", FAILING, BROADCASTER_HLS_DIR=folder)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("mend what their last lines say, and run this again: broadcaster")
    done = host.install("two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (host.runs(), host.release) == (True, "two")
    log = host.says("journalctl", "--unit=broadcaster", "--output=cat")
    assert f"following {folder}, serving" in log
    assert ("Landlock" in log) == (landlock() < 1)  # the units allow it
