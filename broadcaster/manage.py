"""``broadcaster recordings``: asks the running service.

The catalog is its own, and what was recorded goes on while it is looked at; so all is asked of its operator's
listener, with the token from its state folder: on its own machine, or to upload a file, on any other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urljoin

import aiohttp

from broadcaster.config import Settings, load
from broadcaster.errors import ConfigError, ManageError
from broadcaster.operator import stored_token
from broadcaster.printable import printable, printable_json, write
from broadcaster.progress import Progress
from broadcaster.upload import upload_recording_file

TIMEOUT = 3600.0  # seconds; to look through a large bucket takes a while
ON = {"starting", "live"}
ID, PAGE = re.compile(r"([\w-]+)"), re.compile(r"/watch/([\w-]+)/?(?:[?#].*)?$")
NOT_FOUND = 404
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where nobody can be asked


class NoSuchRecordingError(ManageError):
    """The service knows nothing by this name."""


def upload_of(options: argparse.Namespace) -> argparse.Namespace:
    """The options that make an export's file its recording's; raises ManageError where it is of none."""
    found = PAGE.search(options.address) or (
        None if "://" in options.address else ID.fullmatch(options.address)
    )
    if not found:
        raise ManageError("--upload needs a recording: its id, or the address of its page (/watch/...)")
    return argparse.Namespace(**{**vars(options), "what": "upload", "id": found[1], "cancel": False})


def manage(options: argparse.Namespace) -> None:
    """Do what the options say; raises ConfigError without a token, ManageError when it cannot be done.

    Unless they say where the service is, it is this machine's, and the settings say where.
    """
    elsewhere = getattr(options, "service", None)
    address, token = _elsewhere(options) if elsewhere else _own(load())
    if options.what == "upload" and options.file:
        asyncio.run(_upload(address, token, options, is_here=not elsewhere))
        return
    if options.what == "delete":
        asyncio.run(_delete(address, token, options))
        return
    found = asyncio.run(_ask(address, token, *_request(options)))
    if options.what == "list":
        binned = asyncio.run(_ask(address, token, "GET", "bin"))["recordings"]
        for one in (*found["recordings"], *(one | {"visibility": "bin"} for one in binned)):
            write(_line(one))
    elif options.what == "bin":
        for kind, ones in found.items():
            for one in ones:
                title = one.get("title") or one.get("recording", "")
                line = f"{one['id']}  {kind[:-1]:<9}  until {one['goes'][:16]}  {title}"
                write(line.rstrip())
    elif found:
        write(printable_json(json.dumps(found, indent=2, ensure_ascii=False)))


def address_of(settings: Settings, name: str, part: int) -> str:
    """Where the playlist of a recording's part is, or that of a clip, by its id.

    Raises ConfigError without a token or a public bucket, ManageError when there is none.
    """
    if not settings.public_url:
        raise ConfigError("R2_PUBLIC_URL is not set: what is in a private bucket cannot be read by its id")
    address, token = _own(settings)
    found = asyncio.run(_ask(address, token, "GET", "recordings"))["recordings"]
    for one in found:
        if one["id"] == name:
            if part > len(one["parts"]):
                raise ManageError(f"the recording has {len(one['parts'])} parts")
            path = str(one["parts"][part - 1])
            break
    else:
        clips = asyncio.run(_ask(address, token, "GET", "clips"))["clips"]
        path = next((str(one["playlist"]) for one in clips if one["id"] == name), "")
    if not path:
        raise ManageError(f"there is no recording or clip {name!r}; `broadcaster recordings list` names them")
    return urljoin(f"{settings.public_url}/{settings.prefix}/recordings/", path)


def _elsewhere(options: argparse.Namespace) -> tuple[str, str]:
    """Where the service is, and the token."""
    if not options.token_file:
        raise ManageError("--service needs --token-file: operator-token of the service's state folder")
    try:
        return options.service.rstrip("/"), options.token_file.read_text().strip()
    except OSError as error:
        raise ManageError(f"{options.token_file}: {error.strerror}") from None


def _own(settings: Settings) -> tuple[str, str]:
    """Where this machine's service is, and its token."""
    host = EVERYWHERE.get(settings.admin_host, settings.admin_host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.admin_port}", stored_token(settings.state_dir)


async def _upload(address: str, token: str, options: argparse.Namespace, *, is_here: bool) -> None:
    """Beside a stream that is on, only at a rate: the uplink is the stream's."""
    rate = options.rate and options.rate * 1000 / 8
    if is_here and not rate and await _is_on(address):
        raise ManageError("a stream is on, which needs the uplink: give --rate, or wait until it is over")
    try:
        with Progress(options.file.stat().st_size) as show:
            await upload_recording_file(address, token, options.id, options.file, rate=rate, progress=show)
    except OSError as error:
        raise ManageError(f"{options.file}: {error.strerror}") from None
    except asyncio.CancelledError:
        write("interrupted; the same command goes on where it stood", sys.stderr)
        raise


async def _delete(address: str, token: str, options: argparse.Namespace) -> None:
    """A recording or a clip, or with ``--now`` what is in the bin as well; on a terminal after a question."""
    name, query = options.id, "?now=1" if options.now else ""
    if sys.stdin.isatty() and not options.yes:
        known = [one async for one in _named(address, token, name)]
        if known and not _agrees(known[0], now=options.now):
            return
    paths = [f"recordings/{name}{query}", f"clips/{name}{query}", *([f"bin/{name}"] if options.now else [])]
    for path in paths:
        with contextlib.suppress(NoSuchRecordingError):
            await _ask(address, token, "DELETE", path)
            return
    raise NoSuchRecordingError("there is no such recording or clip")


async def _named(address: str, token: str, name: str) -> AsyncIterator[dict[str, Any]]:
    """The recordings and clips of that name, in the bin or not."""
    for path in ("recordings", "clips", "bin"):
        for ones in (await _ask(address, token, "GET", path)).values():
            for one in ones:
                if one["id"] == name:
                    yield one


def _agrees(one: dict[str, Any], *, now: bool) -> bool:
    """Whether the operator means it."""
    when = str(one.get("started") or one.get("begin") or one.get("deleted"))[:16].replace("T", " ")
    fate = "for good" if now else "into the bin, for a day"
    sys.stderr.write(f"{one.get('title') or one['id']!r}, {when} UTC: delete it {fate}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _is_on(address: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):  # the upload says so itself
        async with aiohttp.ClientSession() as session, session.get(f"{address}/health") as response:
            return (await response.json())["stream"] in ON
    return False


async def _ask(
    address: str, token: str, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT), headers=headers) as session,
            session.request(method, f"{address}/api/{path}", json=body) as response,
        ):
            text = await response.text()
            if not response.ok:
                kind = NoSuchRecordingError if response.status == NOT_FOUND else ManageError
                raise kind(_complaint(response.status, text))
            return dict(json.loads(text)) if text else {}
    except aiohttp.ClientConnectionError:
        raise ManageError(f"the service does not answer at {address}: is it running?") from None


def _request(options: argparse.Namespace) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body."""
    what, one = options.what, f"recordings/{getattr(options, 'id', '')}"
    if what in {"sweep", "rebuild"}:
        query = "?dry-run=1" if what == "sweep" and options.dry_run else ""
        return "POST", f"recordings/{what}{query}", None
    if what == "upload":
        file = "/upload" if options.cancel else "?now=1" if options.now else ""
        return "DELETE", f"{one}/file{file}", None
    if what in {"bin", "restore"}:
        return ("GET", "bin", None) if what == "bin" else ("POST", f"bin/{options.id}/restore", None)
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "title": lambda: {"title": options.title},
        "keep": lambda: {"keepDays": options.days},
        "hide": lambda: {
            "visibility": "unlisted" if options.unlisted else "listed" if options.undo else "hidden"
        },
    }
    if what in changes:
        return "PATCH", one, changes[what]()
    return "GET", "recordings" if what == "list" else one, None


def _line(one: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(one["duration"]), 60)
    length = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    state = one["visibility"] if one["ended"] else "on"
    line = f"{one['id']}  {length:>9}  {one['size'] / 1e6:>9,.1f} MB  {state:<8}  {one['title']}"
    return printable(line.rstrip())


def _complaint(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, LookupError, TypeError):
        return "there is no such recording" if status == NOT_FOUND else f"the service answers {status}"
