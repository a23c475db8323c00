"""The notifications for systemd, read from a real socket as systemd reads it."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcaster.logs import feed_watchdog, notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


async def heard(systemd: socket.socket) -> str:
    async with asyncio.timeout(60):
        return (await asyncio.get_running_loop().sock_recv(systemd, 1000)).decode()


async def test_states_arrive(systemd: socket.socket) -> None:
    """A state is one datagram."""
    notify("READY=1")
    assert await heard(systemd) == "READY=1"
    notify("STOPPING=1")
    assert await heard(systemd) == "STOPPING=1"


async def test_abstract_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address with @ is in the abstract namespace, as sd_notify(3) has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(f"\0{tmp_path}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        notify("READY=1")
        assert await heard(listening) == "READY=1"


def test_without_systemd(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where systemd did not start us, nothing is sent and nothing said."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    assert caplog.messages == []


def test_a_deaf_systemd_stops_nothing(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """A socket that is gone, or full, is a line in the log and neither an exception nor a wait."""
    while not caplog.messages:
        notify("WATCHDOG=1")
    systemd.close()
    notify("READY=1")
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("cannot report READY=1 to systemd: ")


async def test_the_watchdog_hears_from_the_living_alone(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While ingest is alive the watchdog gets its notifications; when it is not, there is silence."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    looks: asyncio.Queue[bool] = asyncio.Queue()
    alive = True

    def is_alive() -> bool:
        looks.put_nowait(alive)
        return alive

    task = asyncio.create_task(feed_watchdog(is_alive))
    for _ in range(3):
        assert await heard(systemd) == "WATCHDOG=1"
    alive = False
    while await looks.get():
        pass
    while True:  # what was sent before
        try:
            systemd.recv(100)
        except BlockingIOError:
            break
    for _ in range(3):
        assert await looks.get() is False
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    alive = True
    assert await heard(systemd) == "WATCHDOG=1"
    task.cancel()
    await asyncio.wait([task])


async def test_without_a_watchdog(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WATCHDOG_USEC nothing is sent, and the task ends."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await feed_watchdog(lambda: True)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
