"""``broadcaster recordings``: what was recorded."""

from __future__ import annotations

import argparse
from pathlib import Path

from broadcaster.admin_client import manage
from broadcaster.commands.arguments import add_upload_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be asked."""
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="all of them, newest first")
    texts = {
        "show": "all that is known of one",
        "title": "give it a title; an empty one is the stream's again",
        "keep": "keep it for so many days from now, or for ever",
        "hide": "let nobody find it",
        "delete": "put a recording or a clip into the bin; it goes after a day",
        "restore": "take a recording, a clip or a file out of the bin",
    }
    made = {name: commands.add_parser(name, help=text) for name, text in texts.items()}
    for one in made.values():
        one.add_argument("id")
    made["title"].add_argument("title")
    made["keep"].add_argument("days", type=_days, metavar="DAYS|forever")
    _add_now(made["delete"])
    made["delete"].add_argument("--yes", action="store_true", help="ask no question on a terminal")
    commands.add_parser("bin", help="what was deleted, and when it goes")
    how = made["hide"].add_mutually_exclusive_group()
    how.add_argument("--unlisted", action="store_true", help="let those find it who have its address")
    how.add_argument("--undo", action="store_true", help="let everybody find it")
    sweep = commands.add_parser("sweep", help="delete objects under the prefix that nothing needs")
    sweep.add_argument("--dry-run", action="store_true", help="only say which they are")
    _add_upload(commands.add_parser("upload", help="make a file the recording's own, to be downloaded"))
    commands.add_parser("rebuild", help="bring back what the bucket has, after the state folder was lost")


def _add_now(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--now", action="store_true", help="for good, and at once; also of what is in the bin"
    )


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", type=Path, nargs="?")
    what.add_argument("--cancel", action="store_true", help="give up an upload that is on its way")
    what.add_argument("--remove", action="store_true", help="put its file into the bin")
    _add_now(parser)
    add_upload_options(parser)


def run(options: argparse.Namespace, _form: str) -> int:
    """Ask the running service."""
    manage(options)
    return 0


def _days(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number of days, 1 or more, or forever")
    return int(text)
