"""The access of a hostile viewer server."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broadcaster.viewer_server.sandbox import HAS_NETWORK, HAS_SCOPES, landlock

# It is shut in as the process is, and does what a stranger would. Prints the error of each, 0 for success.
STRANGER = """
import json, os, signal, socket, sys
from broadcaster.viewer_server.sandbox import read_only, enter_sandbox

enter_sandbox()
served = socket.create_server(("127.0.0.1", 0))  # as the process has them from ingest
pair = socket.socketpair()
read_only([], int(sys.argv[4]))

def outcome(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

def connect(family, address):
    with socket.socket(family) as one:
        one.connect(address)

listener, abstract, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
found = {
    "read": outcome(lambda: open(file)),
    "connect": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", listener))),
    "connect to the leader": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", int(sys.argv[4])))),
    "bind": outcome(lambda: socket.create_server(("127.0.0.1", 0))),
    "abstract": outcome(lambda: connect(socket.AF_UNIX, "\\0" + abstract)),
    "look for": outcome(lambda: os.kill(os.getppid(), 0)),
    "stop": outcome(lambda: os.kill(os.getppid(), signal.SIGCONT)),
    "own": outcome(lambda: os.kill(os.getpid(), 0)),
    "talk": outcome(lambda: pair[0].send(b"x")),
    "accept": outcome(lambda: (served.setblocking(False), served.accept())),
}
print(json.dumps(found))
"""


@pytest.mark.skipif(landlock() < 1, reason="the kernel has no Landlock")
def test_a_hostile_process(tmp_path: Path) -> None:
    """It reaches no listener, no abstract socket and no other process; its open sockets work."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    name = f"broadcaster-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as leader,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(f"\0{name}")
        abstract.listen()
        arguments = [str(listener.getsockname()[1]), name, str(secret), str(leader.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, *arguments], capture_output=True, text=True, check=True
        )
    found = {what: error and os.strerror(error) for what, error in json.loads(done.stdout).items()}
    assert found["read"] == "Permission denied"
    assert found["connect to the leader"] == 0
    assert (found["own"], found["talk"], found["accept"]) == (0, 0, "Resource temporarily unavailable")
    if landlock() >= HAS_NETWORK:
        assert found["connect"] == found["bind"] == "Permission denied"
    if landlock() >= HAS_SCOPES:
        assert found["abstract"] == found["stop"] == found["look for"] == "Operation not permitted"


PRIVATE = """
import os, sys
from broadcaster.viewer_server.sandbox import keep_memory_private
keep_memory_private()
print(sum(bool(os.stat(f"/proc/self/{name}")) for name in ("fd", "exe")), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs another user")
def test_the_memory_of_ingest_is_private() -> None:
    """Another process of the same user cannot read its environment; it reads its own files."""
    modules = {"PYTHONPATH": os.pathsep.join(sys.path), "SECRET": "swordfish"}
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with (
        subprocess.Popen(
            [*command, "/usr/bin/env", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=modules
        ) as open_one,
        subprocess.Popen(
            [*command, sys.executable, "-c", PRIVATE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=modules,
            text=True,
        ) as private,
    ):
        assert private.stdout
        assert private.stderr
        if private.stdout.readline() != "2\n":
            private.kill()
            open_one.kill()
            pytest.skip(f"Python's files are root's alone here: {private.stderr.read()}")

        def look(pid: int) -> int:
            return subprocess.run(
                [*command, "cat", f"/proc/{pid}/environ"], capture_output=True, check=False
            ).returncode

        assert look(open_one.pid) == 0
        assert look(private.pid) != 0
        for process in (open_one, private):
            process.send_signal(signal.SIGKILL)
