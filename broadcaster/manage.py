"""``broadcaster recordings``: asks the service that runs on this machine.

The catalog is the running service's own, and what was recorded goes on while it is looked at; so all is asked
of its operator's listener, with the token from its state folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import aiohttp

from broadcaster.config import Settings
from broadcaster.errors import ConfigError, ManageError
from broadcaster.operator import stored_token

TIMEOUT = 3600.0  # seconds; to look through a large bucket takes a while
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where nobody can be asked


def add_commands(parser: argparse.ArgumentParser) -> None:
    """What can be asked."""
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="all of them, newest first")
    texts = {
        "show": "all that is known of one",
        "title": "give it a title; an empty one is the stream's again",
        "keep": "keep it for so many days from now, or for ever",
        "hide": "let nobody find it",
        "delete": "delete it; what no clip has of it goes when those who still play it are done",
    }
    made = {name: commands.add_parser(name, help=text) for name, text in texts.items()}
    for one in made.values():
        one.add_argument("id")
    made["title"].add_argument("title")
    made["keep"].add_argument("days", type=_days, metavar="DAYS|forever")
    how = made["hide"].add_mutually_exclusive_group()
    how.add_argument("--unlisted", action="store_true", help="let those find it who have its address")
    how.add_argument("--undo", action="store_true", help="let everybody find it")
    sweep = commands.add_parser("sweep", help="delete objects under the prefix that nothing needs")
    sweep.add_argument("--dry-run", action="store_true", help="only say which they are")
    commands.add_parser("rebuild", help="bring back what the bucket has, after the state folder was lost")


def manage(settings: Settings, options: argparse.Namespace) -> None:
    """Do what the options say; raises ConfigError without a token, ManageError when it cannot be done."""
    found = asyncio.run(_ask(settings, *_request(options)))
    if options.what == "list":
        for one in found["recordings"]:
            sys.stdout.write(_line(one) + "\n")
    elif found:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def address_of(settings: Settings, name: str, part: int) -> str:
    """Where the playlist of a recording's part is, or that of a clip, by its id.

    Raises ConfigError without a token or a public bucket, ManageError when there is none.
    """
    if not settings.public_url:
        raise ConfigError("R2_PUBLIC_URL is not set: what is in a private bucket cannot be read by its id")
    found = asyncio.run(_ask(settings, "GET", "recordings", None))["recordings"]
    for one in found:
        if one["id"] == name:
            if part > len(one["parts"]):
                raise ManageError(f"the recording has {len(one['parts'])} parts")
            path = str(one["parts"][part - 1])
            break
    else:
        clips = asyncio.run(_ask(settings, "GET", "clips", None))["clips"]
        path = next((str(one["playlist"]) for one in clips if one["id"] == name), "")
    if not path:
        raise ManageError(f"there is no recording or clip {name!r}; `broadcaster recordings list` names them")
    return urljoin(f"{settings.public_url}/{settings.prefix}/recordings/", path)


async def _ask(settings: Settings, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    host = EVERYWHERE.get(settings.admin_host, settings.admin_host)
    host = f"[{host}]" if ":" in host else host
    address = f"http://{host}:{settings.admin_port}"
    headers = {"Authorization": f"Bearer {stored_token(settings.state_dir)}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT), headers=headers) as session,
            session.request(method, f"{address}/api/{path}", json=body) as response,
        ):
            text = await response.text()
            if not response.ok:
                raise ManageError(_complaint(response.status, text))
            return dict(json.loads(text)) if text else {}
    except aiohttp.ClientConnectionError:
        raise ManageError(f"the service does not answer at {address}: is it running?") from None


def _request(options: argparse.Namespace) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body."""
    what, one = options.what, f"recordings/{getattr(options, 'id', '')}"
    if what in {"sweep", "rebuild"}:
        query = "?dry-run=1" if what == "sweep" and options.dry_run else ""
        return "POST", f"recordings/{what}{query}", None
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "title": lambda: {"title": options.title},
        "keep": lambda: {"keepDays": options.days},
        "hide": lambda: {
            "visibility": "unlisted" if options.unlisted else "listed" if options.undo else "hidden"
        },
    }
    if what in changes:
        return "PATCH", one, changes[what]()
    return "DELETE" if what == "delete" else "GET", "recordings" if what == "list" else one, None


def _line(one: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(one["duration"]), 60)
    length = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    state = one["visibility"] if one["ended"] else "on"
    return f"{one['id']}  {length:>9}  {one['size'] / 1e6:>9,.1f} MB  {state:<8}  {one['title']}".rstrip()


def _complaint(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, LookupError, TypeError):
        return "there is no such recording" if status == 404 else f"the service answers {status}"  # noqa: PLR2004


def _days(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number of days, or forever")
    return int(text)
