"""The command line: ``broadcaster run | demo | check | recordings | export | relay``."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from broadcaster import __version__, logs
from broadcaster.errors import BroadcasterError, CatalogError, ConfigError
from broadcaster.printable import printable, show_exceptions, write

if TYPE_CHECKING:
    from broadcaster.commands import Command

EXIT_FAILED, EXIT_CONFIG = 1, 2
COMMANDS = {  # names and help texts; broadcaster.commands, which runs them, is loaded for a command alone
    "run": "follow the folder and serve it; settings from the environment and .env",
    "demo": "everything on embedded stand-ins, on this machine",
    "check": "find out what is wrong with settings, folders and bucket",
    "recordings": "what was recorded; asks the running service",
    "relay": "serve another broadcaster's stream: each byte comes once",
    "export": "a recording, a clip or the live window as one file",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 when something failed, 2 for a wrong setting."""
    arguments = sys.argv[1:] if arguments is None else arguments
    show_exceptions()
    options = parse(arguments)
    form = options.log_format or logs.usual_form()
    try:
        return _command(options.command).run(options, form)
    except (ConfigError, CatalogError) as error:
        return _complain(error, EXIT_CONFIG, form)
    except BroadcasterError as error:
        return _complain(error, EXIT_FAILED, form)
    except KeyboardInterrupt:
        return 0
    except BaseExceptionGroup as group:
        first = _first(group)
        status = EXIT_CONFIG if isinstance(first, ConfigError | CatalogError) else EXIT_FAILED
        return _complain(first, status, form)


def _command(name: str) -> Command:
    from broadcaster.commands import COMMANDS  # noqa: PLC0415 - ``--help`` and ``--version`` do without

    return COMMANDS[name]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show the arguments without control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse a command line. Only the named command's modules are loaded."""
    parser = _Parser(prog="broadcaster", description="An Owncast stream, out of Cloudflare R2.")
    parser.add_argument("--version", action="version", version=f"broadcaster {__version__}")
    parser.set_defaults(log_format=None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        subparser = commands.add_parser(name, help=text)
        if name in arguments[:1]:
            _command(name).add_options(subparser)
    return parser.parse_args(arguments)


def _complain(error: BaseException, status: int, form: str) -> int:
    if isinstance(error, BroadcasterError):
        text = str(error)
    else:  # a bug: say where
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        text = f"{type(error).__name__}: {error}{where}"
    write(logs.last_line(" ".join(text.split()), form), sys.stderr)  # one line, whatever it was
    return status


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure inside nested groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
