"""How soon 5,000 requests that wait for the next segment have their answers, the last byte of each."""

import re
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from broadcaster.http import raise_file_limit
from tests.bench.cores import CLIENT, free_port, run, this_process_on
from tests.bench.report import Figure, percentile, progress

CLIENTS = 5000
ROUNDS = 7
FIRST = 21  # the media sequence number after those that the server begins with
PATIENCE = 15.0  # seconds; the server has more
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Player:
    """One player's connection, which stays open from reload to reload."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._received = b""

    def ask(self, number: int) -> None:
        """Ask for the version with that media sequence number, as a browser would."""
        self._received = b""
        self.socket.setblocking(True)
        self.socket.sendall(
            f"GET /live/playlist.m3u8?_HLS_msn={number} HTTP/1.1\r\nHost: live.example.com\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130 Safari/537.36\r\n"
            "Accept: */*\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nOrigin: https://live.example.com\r\n"
            "Accept-Language: en\r\nReferer: https://live.example.com/\r\n\r\n".encode()
        )
        self.socket.setblocking(False)

    def has_answer(self) -> bool:
        """Read what has come; whether that was the last byte. Raises RuntimeError for what is no playlist."""
        data = self.socket.recv(65_536)
        self._received += data
        head, end, body = self._received.partition(HEAD_END)
        if not data or (end and not head.startswith(b"HTTP/1.1 200 ")):
            raise RuntimeError(f"a player was sent away: {head.decode()}")
        length = LENGTH.search(head + b"\r\n")
        return bool(end) and length is not None and len(body) >= int(length[1])


def measure() -> list[Figure]:
    """The servers take turns on one core, ours and a bare one; all players together have the other."""
    if raise_file_limit(2 * CLIENTS) < 2 * CLIENTS:
        progress(f"wake-up: {2 * CLIENTS} connections are more than this system allows, left out")
        return []
    with ExitStack() as stack:
        servers = [
            _serving(stack, "tests.bench.wake_up_server"),
            _serving(stack, "tests.bench.bare_server", "waiting"),
        ]
        stack.enter_context(this_process_on(CLIENT))
        crowds = [(server, _crowd(stack, port)) for server, port in servers]
        rounds = [[_round(*crowd, FIRST + number) for crowd in crowds] for number in range(ROUNDS)]
    # Of several publications the median: what else the machine does at the time is not the server's doing.
    typical = statistics.median(1000 * percentile(answers, 0.5) for answers, _ in rounds)
    slowest = [[1000 * percentile(answers, 0.99) for answers in both] for both in rounds]
    ratio = statistics.median(ours / bare for ours, bare in slowest)
    return [
        Figure(f"wake-up of {CLIENTS} blocked requests, median", typical, "ms"),
        Figure("wake-up, p99", statistics.median(ours for ours, _ in slowest), "ms"),
        Figure("bare aiohttp, p99", statistics.median(bare for _, bare in slowest), "ms"),
        Figure("wake-up, p99: ratio to bare aiohttp", ratio, at_most=1.6),
    ]


def _serving(stack: ExitStack, module: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    port = free_port()
    command = [sys.executable, "-m", module, *arguments, str(port), str(CLIENTS)]
    return run(stack, command, port, piped=True), port


def _crowd(stack: ExitStack, port: int) -> list[Player]:
    players = [Player(port) for _ in range(CLIENTS)]
    for player in players:
        stack.callback(player.socket.close)
    return players


def _round(server: subprocess.Popen[str], players: list[Player], number: int) -> list[float]:
    """Let all wait for one segment; returns how long after its publication each had its answer (seconds)."""
    progress(f"wake-up: publication {number - FIRST + 1} of {ROUNDS}")
    if server.stdin is None or server.stdout is None:
        raise RuntimeError("the server has no pipes")
    for player in players:
        player.ask(number)
    server.stdin.write(f"{len(players)}\n")
    server.stdin.flush()
    ends = list(_ends(players))
    published = float(server.stdout.readline())
    return [end - published for end in ends]


def _ends(players: list[Player]) -> Iterator[float]:
    """When each had the last byte (monotonic)."""
    deadline, left = time.monotonic() + PATIENCE, len(players)
    with selectors.DefaultSelector() as selector:
        for player in players:
            selector.register(player.socket, selectors.EVENT_READ, player)
        while left:
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                raise RuntimeError(f"{left} players have no answer")
            for key, _ in ready:
                if key.data.has_answer():
                    left -= 1
                    yield time.monotonic()
