"""Playlist requests per second of CPU, beside a bare aiohttp handler and nginx, which send the same bytes.

It is the CPU time that counts, not the clock: what else the machine does at the time changes nothing.
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.bench.cores import CLIENT, free_port, on_core, run
from tests.bench.report import Figure, progress

ROUNDS = 9
SECONDS = 1
CONNECTIONS = 32
PATH = "/live/playlist.m3u8"


def measure() -> list[Figure]:
    """Alternate between the servers, the client on another core; ratios are medians of the rounds."""
    nginx, wrk = shutil.which("nginx"), shutil.which("wrk")
    if not nginx or not wrk:
        progress("playlists: nginx or wrk is missing, left out")
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, theirs = free_port(), free_port()
        server = [
            sys.executable,
            "-m",
            "tests.bench.playlist_server",
            str(ours),
            str(folder / "www" / PATH[1:]),
        ]
        folder.chmod(0o755)  # the worker of an nginx that root starts is another user
        (folder / "www" / "live").mkdir(parents=True)
        bare, body = free_port(), str(folder / "www" / PATH[1:])
        bare_server = [sys.executable, "-m", "tests.bench.bare_server", "file", str(bare), body]
        nginx_server = [nginx, "-c", str(_nginx_conf(folder, theirs)), "-p", str(folder)]
        servers = (
            _Server(ours, run(stack, server, ours).pid),
            _Server(bare, run(stack, bare_server, bare).pid),
            _Server(theirs, run(stack, nginx_server, theirs).pid),
        )
        etag = _etag(ours)
        rounds = [_round(wrk, number, servers, etag) for number in range(1, ROUNDS + 1)]
    return [
        Figure("playlist requests per second of CPU", max(measured.full for measured in rounds), "/s"),
        Figure("the same bytes by nginx from a file", max(measured.nginx for measured in rounds), "/s"),
        Figure("the same bytes by bare aiohttp", max(measured.bare for measured in rounds), "/s"),
        Figure(
            "playlists: ratio to bare aiohttp",
            median(measured.full / measured.bare for measured in rounds),
            at_least=0.85,
        ),
        Figure("playlists: ratio to nginx", median(measured.full / measured.nginx for measured in rounds)),
        Figure(
            "304 answers: ratio to full ones",
            median(measured.same / measured.outdated for measured in rounds),
            at_least=0.9,
        ),
    ]


@dataclass(frozen=True)
class _Rates:
    """Requests per second of CPU in one round, which is short: its ratios are of one and the same machine."""

    full: float
    bare: float
    nginx: float
    outdated: float  # with an If-None-Match that does not match: full answers
    same: float  # with one that does: 304


@dataclass(frozen=True)
class _Server:
    """A server that runs; its children are part of it."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds that it has had so far."""
        process = psutil.Process(self.pid)
        return sum(sum(child.cpu_times()[:2]) for child in (process, *process.children()))


def _round(wrk: str, number: int, servers: tuple[_Server, _Server, _Server], etag: str) -> _Rates:
    progress(f"playlists: round {number} of {ROUNDS}")
    ours, bare, theirs = servers
    return _Rates(
        full=_rate(wrk, ours),
        bare=_rate(wrk, bare),
        nginx=_rate(wrk, theirs),
        outdated=_rate(wrk, ours, f"If-None-Match: {etag[::-1]}"),
        same=_rate(wrk, ours, f"If-None-Match: {etag}"),
    )


def _rate(wrk: str, server: _Server, header: str | None = None) -> float:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"http://127.0.0.1:{server.port}{PATH}"]
    if header:
        command[1:1] = ["-H", header]
    before = server.cpu()
    output = subprocess.run(on_core(CLIENT, command), capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", output)
    if found is None or "Non-2xx" in output:
        raise RuntimeError(f"wrk did not measure what it should:\n{output}")
    return int(found[1]) / (server.cpu() - before)


def _etag(port: int) -> str:
    """The playlist's, once it is sure that it brings a 304."""
    status, etag = _ask(port)
    if (status, _ask(port, f"If-None-Match: {etag}\r\n")[0]) != (200, 304):
        raise RuntimeError("the server does not answer 304")
    return etag


def _ask(port: int, header: str = "") -> tuple[int, str]:
    request = f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        answer = connection.makefile("rb").read().decode()
    found = re.search(r"(?i)^etag: (.+?)\r", answer, re.MULTILINE)
    if found is None:
        raise RuntimeError("no ETag in the answer")
    return int(answer.split()[1]), found[1]


def _nginx_conf(folder: Path, port: int) -> Path:
    conf = folder / "nginx.conf"
    conf.write_text(f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; keepalive_requests 100000000;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    types {{ application/vnd.apple.mpegurl m3u8; }}
    server {{ listen 127.0.0.1:{port}; root {folder}/www; add_header Cache-Control max-age=1; }}
}}
""")
    return conf
