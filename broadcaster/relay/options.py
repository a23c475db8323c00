"""The command line of ``broadcaster relay``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

VIEWER_DIR = Path("viewer/dist")
LEAST_MEMORY = 2**24  # bytes: some segments, at least
MAX_PORT = 65_535

_sizes = TypeAdapter(ByteSize)
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator has chosen. Sizes are in bytes; without a ``cache`` nothing is kept on disk."""

    origin: str
    listen: Address = ("", 8080)
    admin: Address = ("127.0.0.1", 3001)
    cache: Path | None = None
    memory: int = 2**29
    disk: int = 10 * 2**30
    viewer: Path = VIEWER_DIR
    places: int = 2000  # connections
    waiters: int = 1000
    trusted_header: str | None = None  # that tells a viewer's address


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the origin's address, which comes first."""
    usual = Options("")
    parser.add_argument(
        "--listen", type=_address, default=usual.listen, metavar="[HOST]:PORT", help="for viewers (:8080)"
    )
    parser.add_argument(
        "--admin",
        type=_address,
        default=usual.admin,
        metavar="[HOST]:PORT",
        help="for the operator: dashboard and metrics, without a login (127.0.0.1:3001)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep what was fetched here, too, over a restart"
    )
    parser.add_argument(
        "--memory",
        type=_size,
        default=usual.memory,
        metavar="SIZE",
        help="of segments in memory (512MiB)",
    )
    parser.add_argument(
        "--disk", type=_size, default=usual.disk, metavar="SIZE", help="of segments on disk (10GiB)"
    )
    parser.add_argument(
        "--trusted-header",
        choices=("cf-connecting-ip", "x-forwarded-for", "none"),
        help="by which a proxy on this machine tells the address of a viewer (whichever it sends)",
    )
    parser.add_argument(
        "--viewer", type=Path, default=usual.viewer, metavar="DIR", help="the page (viewer/dist)"
    )


def options_of(parsed: argparse.Namespace) -> Options:
    """What was said on the command line."""
    return Options(
        origin=parsed.origin,
        listen=parsed.listen,
        admin=parsed.admin,
        cache=parsed.cache,
        memory=parsed.memory,
        disk=parsed.disk,
        viewer=parsed.viewer,
        trusted_header=parsed.trusted_header,
    )


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError("an address is [HOST]:PORT, as :8080 or 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _size(text: str) -> int:
    try:
        size = int(_sizes.validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError("a size is a number of bytes, or as 512MiB, 10GiB") from None
    if size < LEAST_MEMORY:
        raise argparse.ArgumentTypeError("less than 16MiB is too little")
    return size
