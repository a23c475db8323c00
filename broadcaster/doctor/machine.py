"""The checks of names of settings, listeners, page, ffmpeg, open files and Owncast's API."""

from __future__ import annotations

import errno
import json
import resource
import socket
from contextlib import ExitStack
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from yarl import URL

from broadcaster.aio import PATH_TIMEOUT, OwnThread
from broadcaster.config import Settings, unknown_names
from broadcaster.errors import ConfigError, EncoderError
from broadcaster.guest import Browser
from broadcaster.http import listening_sockets, raise_file_limit
from broadcaster.mediamtx import fetch_config, fetch_path, mistakes, split_url
from broadcaster.owncast import fetch, open_session
from broadcaster.printable import printable
from broadcaster.recordings.posters import is_enabled, program_of
from broadcaster.service.health import CheckFinding, failed, ok, skipped, warning
from broadcaster.service.standby import STANDS_BY, why_not_leader

PAGE_FILES = ("index.html", "vendor")
MISSING = "the HLS folder {} does not exist yet; the service waits for it (BROADCASTER_HLS_DIR)"
HEALTH_KEYS = {"status", "chunks", "manifestChunks"}  # distinguish our /health from that of other services
OTHER = (
    "name the other broadcaster's listener for viewers (BROADCASTER_LEADER_URL); let it listen for this"
    " machine (BROADCASTER_HOST), and a firewall let this one in"
)
HOSTS = "choose 127.0.0.1 for this machine alone, or 0.0.0.0 for every network that it is in"
OWNCAST = "name Owncast's own address, such as http://127.0.0.1:8080 (BROADCASTER_OWNCAST_URL)"
MEDIAMTX = (
    "let MediaMTX answer (api: true in mediamtx.yml), and name its address and the path, as in"
    " http://127.0.0.1:9997/live (BROADCASTER_MEDIAMTX_URL)"
)


def startup_warnings(settings: Settings) -> list[str]:
    """The warnings that the service logs about its settings when it starts."""
    findings = [admin_listener(settings.admin_host), page(settings.viewer_dir)]
    warnings = [f"{finding.message}: {finding.remedy}" for finding in findings if finding.remedy]
    missing = (
        [] if settings.source == "push" or _exists(settings.hls_dir) else [MISSING.format(settings.hls_dir)]
    )
    return unknown_names() + warnings + missing


def _exists(folder: Path) -> bool:
    """Whether the folder exists. True also if the check is denied or the file system hangs."""
    with OwnThread("HLS folder") as thread:
        try:
            thread.submit(folder.stat).result(PATH_TIMEOUT)
        except FileNotFoundError:
            return False
        except (OSError, TimeoutError):
            pass
    return True


def names() -> CheckFinding:
    """The environment and ``.env`` have no misspelt names of settings."""
    if unknown := unknown_names():
        return warning("; ".join(unknown), "correct the name; .env.example has all of them")
    return ok("all names of settings are known")


def admin_listener(host: str) -> CheckFinding:
    """The admin listener, which has no login, can be reached only from this machine."""
    try:
        addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        return failed(f"{host} is no address here (BROADCASTER_ADMIN_HOST): {error.strerror}", HOSTS)
    if all(ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return ok("only this machine reaches dashboard and metrics")
    return warning(
        f"{host} opens dashboard and metrics, without a login, to other machines (BROADCASTER_ADMIN_HOST)",
        "set it to 127.0.0.1 and reach it by ssh -L, or let a firewall keep others away",
    )


def page(folder: Path) -> CheckFinding:
    """The viewers' page is built, with its libraries."""
    missing = [str(folder / name) for name in PAGE_FILES if not (folder / name).exists()]
    if missing:
        return warning(
            f"viewers get no page: {missing[0]} is not there",
            "build the page with make setup, and name its folder, viewer/dist (BROADCASTER_VIEWER_DIR);"
            " playlists are served all the same",
        )
    return ok(f"{folder} is there")


async def addresses(browser: Browser, public: tuple[str, int], admin: tuple[str, int]) -> CheckFinding:
    """Both listeners' addresses are free, or the running service has them."""
    with ExitStack() as stack:
        for (host, port), kind in ((public, "BROADCASTER"), (admin, "BROADCASTER_ADMIN")):
            try:
                for sock in listening_sockets(host, port, f"{kind}_HOST, {kind}_PORT"):
                    stack.callback(sock.close)
            except ConfigError as error:
                is_taken = (
                    isinstance(error.__context__, OSError) and error.__context__.errno == errno.EADDRINUSE
                )
                if is_taken and await _is_ours(browser, host, port):
                    message = f"a broadcaster runs at {host}:{port}"
                    return ok(f"{message}; it is the one with these settings, unless there are two")
                return failed(
                    str(error),
                    f"choose an address of this machine and a port that is free ({kind}_HOST, {kind}_PORT)",
                )
    return ok("the addresses for viewers and operator can be had")


async def _is_ours(browser: Browser, host: str, port: int) -> bool:
    try:
        answer = await browser.fetch(f"http://{f'[{host}]' if ':' in host else host}:{port}/health")
        return set(json.loads(answer.body)) >= HEALTH_KEYS
    except (aiohttp.ClientError, OSError, ValueError, TypeError):  # another program answers
        return False


def ffmpeg(settings: Settings) -> CheckFinding:
    """The ffmpeg for pictures exists. Its absence is no failure."""
    if not is_enabled(settings):
        return ok("none are made, as the settings say")
    if program := program_of(settings):
        return ok(f"{program} makes them")
    return ok(
        f"there is no {settings.pictures} here, so there are none: install ffmpeg, or name"
        " the path of one, Owncast's perhaps (BROADCASTER_PICTURES)"
    )


def open_files(wanted: int) -> CheckFinding:
    """The limit of open files leaves room for ``wanted`` connections."""
    room = raise_file_limit(wanted)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit of open files" if limit == resource.RLIM_INFINITY else f"{limit} open files"
    message = f"{most} where this was started: room for {room} connections of viewers"
    if room < wanted:
        return warning(
            f"{message}, of {wanted} that are allowed (BROADCASTER_MAX_CONNECTIONS)",
            "raise it: ulimit -n, or LimitNOFILE= in systemd's unit; each connection is an open file",
        )
    return ok(message)


async def owncast(url: str) -> CheckFinding:
    """Owncast answers at ``url``; the finding names its version. Streaming works without it."""
    async with open_session() as session:
        try:
            status = await fetch(session, url)
        except EncoderError as error:
            return warning(f"it does not say whether an encoder is connected: {error}", OWNCAST)
    encoder = "an encoder is connected" if status.connected else "no encoder is connected"
    return ok(f"version {printable(status.version or 'unknown')} answers; {encoder}")


async def mediamtx(url: str, folder: Path, target_duration: int | None) -> CheckFinding:
    """MediaMTX answers at ``url``, and writes what the service can follow into ``folder``."""
    _, name = split_url(url)
    async with open_session() as session:
        try:
            config, status = await fetch_config(session, url), await fetch_path(session, url)
        except EncoderError as error:
            return warning(f"it does not say what it writes: {error}", MEDIAMTX)
    if found := [*mistakes(config, folder, name, target_duration)]:
        faults, remedies = zip(*found, strict=True)
        return failed("; ".join(faults), "; ".join(remedies))
    codecs = f": {', '.join(status.codecs)}" if status.codecs else ""
    return ok(f"the path {printable(name)} has {'a' if status.connected else 'no'} stream{codecs}")


async def other_broadcaster(url: str | None) -> CheckFinding:
    """A standby can pass viewers' requests on to the other broadcaster."""
    if url is None:
        return ok(
            "its address is not set (BROADCASTER_LEADER_URL): who stands by keeps the viewers' port closed"
        )
    async with open_session() as session:
        fault = await why_not_leader(session, url)
    if fault is None:
        return ok(f"{url} answers: while that one leads, this one passes viewers' requests on to it")
    if fault == STANDS_BY:
        return ok(f"{url} answers, and {fault}: this one leads, or nobody does")
    return warning(f"{url} {fault}: while this one stands by, viewers get 503 from it", OTHER)


ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here


async def push_listener(settings: Settings) -> CheckFinding:
    """The listener of an encoder that pushes asks for the key."""
    host = ANY_HOST.get(settings.push_host, settings.push_host)
    address = str(URL.build(scheme="http", host=host, port=settings.push_port, path="/ingest/check.ts"))
    try:
        async with open_session() as session, session.delete(address) as answer:
            status = answer.status
    except (TimeoutError, aiohttp.ClientError, OSError):
        return skipped(f"nothing listens at {address}: the service does not run", "start it, and check again")
    if status != HTTPStatus.UNAUTHORIZED:
        return failed(
            f"{address} is another program's: it answers {status} without a key",
            "choose a free port for the encoder (BROADCASTER_PUSH_PORT)",
        )
    return ok(f"{address} asks for the key; an encoder elsewhere needs a proxy with TLS before it")
