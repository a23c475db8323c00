"""A Debian machine of its own, with systemd as its first process, beside this one and as quickly gone."""

import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

SYSTEMD = Path("/lib/systemd/systemd")
BOOT = 180.0  # seconds, on a busy machine
# What it writes is in memory; it sees this machine's files, and none of its devices, network and processes.
# What of the kernel's settings is not its own it cannot change. $1: a folder, $2: its control group's name;
# then a folder of this machine's, and where it is to be seen, and so on.
FIRST = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1"/upper "$1"/work "$1"/root
mount -t overlay -o lowerdir=/,upperdir="$1"/upper,workdir="$1"/work overlay "$1"/root
cd "$1"/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm run/cgroup
ln -s pts/ptmx dev/ptmx
for one in null zero full random urandom tty; do touch dev/$one; mount --bind /dev/$one dev/$one; done
mount -t cgroup2 cgroup2 run/cgroup
mkdir run/cgroup/"$2"
echo $$ >run/cgroup/"$2"/cgroup.procs
shift 2
while [ $# -gt 0 ]; do
    mkdir -p "./$2"
    mount --bind "$1" "./$2"
    mount -o remount,bind,ro "./$2"
    shift 2
done
exec unshare --cgroup bash -c "$SECOND"
"""
SECOND = r"""
set -e
umount run/cgroup
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir run/old
pivot_root . run/old
cd /
umount -l run/old
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=sysinit.target
"""
TIDY = 'mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -exec rmdir {} +; umount "$1"'


class SystemdMachine:
    """The machine whose first process is ``pid``."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--all", "--root", "--wd"]

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on it, as its root."""
        words = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        words += [f"{name}={value}" for name, value in environment.items()]
        return subprocess.run(
            [*self._enter, *words, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def says(self, *command: str | Path) -> str:
        """What a command prints."""
        return self.run(*command).stdout.strip()


@contextmanager
def systemd_machine(folder: Path, shown: Mapping[str, Path]) -> Iterator[SystemdMachine]:
    """Boot one, for which ``folder`` is needed, and folders of ours can be ``shown`` under other names.

    Skips the test where none can be made.
    """
    if not SYSTEMD.exists() or not shutil.which("nsenter"):
        pytest.skip("systemd is not installed")
    group = f"machine-{secrets.token_hex(4)}"
    apart = ["unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--kill-child"]
    pairs = [word for name, path in shown.items() for word in (path, name)]
    log = folder.with_suffix(".log")
    folder.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*apart, "bash", "-c", FIRST, "machine", folder, group, *pairs],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SECOND": SECOND},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _booted(process, log)
    finally:
        for first in psutil.Process(process.pid).children() if process.poll() is None else ():
            first.kill()  # and with it go all others; unshare waits for that
        process.wait()
        subprocess.run(["unshare", "--mount", "bash", "-c", TIDY, "tidy", folder, group], check=False)


def _booted(process: subprocess.Popen[bytes], log: Path) -> SystemdMachine:
    end = time.monotonic() + BOOT
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.skip(f"no machine can be made here: {log.read_text().strip()}")
        for child in psutil.Process(process.pid).children():
            found = SystemdMachine(child.pid)
            if found.says("systemctl", "is-system-running", "--wait") in {"running", "degraded"}:
                return found
        time.sleep(0.1)
    raise AssertionError(f"it does not boot: {log.read_text()}")
