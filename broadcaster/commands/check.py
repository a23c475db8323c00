"""``broadcaster check``: the doctor."""

from __future__ import annotations

import argparse

from broadcaster import logs
from broadcaster.commands.arguments import origin
from broadcaster.doctor import check


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it mends, whom it asks, and how it reports."""
    parser.add_argument("--fix", action="store_true", help="set the bucket's CORS policy and lifecycle rules")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.add_argument(
        "--origin", type=origin, metavar="URL", help="where viewers open the page: https://watch.example.com"
    )
    parser.add_argument(
        "--public",
        type=origin,
        metavar="URL",
        help="ask the service through its tunnel or proxy, too: https://live.example.com",
    )
    parser.add_argument(
        "--uploads",
        type=origin,
        metavar="URL",
        help="where you open the dashboard, if you upload files there: http://127.0.0.1:3001",
    )


def run(options: argparse.Namespace, form: str) -> int:
    """Once."""
    logs.set_up("error", form)
    return check(
        fix=options.fix,
        as_json=options.json,
        origin=options.origin,
        public=options.public,
        uploads=options.uploads,
    )
