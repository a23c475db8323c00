"""Playlist requests per second of one process on one core, with nginx serving the same bytes beside it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.report import Figure, progress

ROUNDS = 3
SECONDS = 4
CONNECTIONS = 32
PATH = "/live/playlist.m3u8"


def measure() -> list[Figure]:
    """Alternate between the two servers on core 0, with the client on core 1, and compare the best rounds."""
    nginx, wrk = shutil.which("nginx"), shutil.which("wrk")
    if not nginx or not wrk:
        progress("playlists: nginx or wrk is missing, left out")
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, theirs = _free_port(), _free_port()
        server = [
            sys.executable,
            "-m",
            "tests.bench.playlist_server",
            str(ours),
            str(folder / "www" / PATH[1:]),
        ]
        folder.chmod(0o755)  # the worker of an nginx that root starts is another user
        (folder / "www" / "live").mkdir(parents=True)
        _run(stack, server, ours)
        _run(stack, [nginx, "-c", str(_nginx_conf(folder, theirs)), "-p", str(folder)], theirs)
        best = {"ours": 0.0, "nginx": 0.0, "304": 0.0}
        etag = _etag(ours)
        for number in range(1, ROUNDS + 1):
            progress(f"playlists: round {number} of {ROUNDS}")
            best["ours"] = max(best["ours"], _rate(wrk, ours))
            best["nginx"] = max(best["nginx"], _rate(wrk, theirs))
            best["304"] = max(best["304"], _rate(wrk, ours, f"If-None-Match: {etag}"))
    return [
        Figure("playlist requests per second, one core", best["ours"], "/s"),
        Figure("the same bytes by nginx from a file, one core", best["nginx"], "/s"),
        Figure("playlists: ratio to nginx", best["ours"] / best["nginx"], at_least=0.3),
        Figure("304 answers: ratio to full playlists", best["304"] / best["ours"]),
    ]


def _rate(wrk: str, port: int, header: str | None = None) -> float:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}{PATH}"]
    if header:
        command[1:1] = ["-H", header]
    output = subprocess.run(_on_core(1, command), capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or (header is None and "Non-2xx" in output):
        raise RuntimeError(f"wrk did not measure what it should:\n{output}")
    return float(found[1])


def _run(stack: ExitStack, command: list[str], port: int) -> None:
    process = subprocess.Popen(_on_core(0, command))
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{command[0]} did not start")


def _on_core(core: int, command: list[str]) -> list[str]:
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(core), *command] if taskset and (os.cpu_count() or 1) > 1 else command


def _etag(port: int) -> str:
    request = f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        answer = connection.makefile("rb").read().decode()
    found = re.search(r"(?i)^etag: (.+?)\r", answer, re.MULTILINE)
    if found is None:
        raise RuntimeError("no ETag in the answer")
    return found[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
