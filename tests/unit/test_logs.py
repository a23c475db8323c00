"""Log lines in each form, written by a process of its own: logging is set up once in a process."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broadcaster.cli import main

SAY = """
import logging, sys
from broadcaster import logs
logs.set_up("info", sys.argv[1] if sys.argv[1:] else logs.default_format())
log = logging.getLogger("broadcaster.some")
log.debug("not shown")
log.info("a %s", "segment")
log.warning("a name\\nin two lines, \\x1b[31mred")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it broke")
"""


def said(*arguments: str) -> list[str]:
    """The lines that a process logs in a form."""
    command = [sys.executable, "-c", SAY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_text() -> None:
    """Text has time and level, and each event is one line without control characters."""
    info, warning, error = said("text")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    a segment", info)
    assert warning.endswith(r"WARNING a name\nin two lines, \x1b[31mred")
    assert r"ERROR   it broke\nTraceback" in error


def test_journal() -> None:
    """For the journal a line begins with its priority, and has no time: the journal notes it."""
    info, warning, error = said("journal")
    assert info == "<6>a segment"
    assert warning == r"<4>a name\nin two lines, \x1b[31mred"
    assert error.startswith(r"<3>it broke\nTraceback")


def test_json() -> None:
    """In JSON each event is one object, whatever it holds."""
    before = datetime.now(UTC).replace(microsecond=0)
    info, warning, error = (json.loads(line) for line in said("json"))
    assert before <= datetime.fromisoformat(info.pop("time")) <= datetime.now(UTC)
    assert info == {"level": "info", "logger": "broadcaster.some", "message": "a segment"}
    assert warning["message"] == "a name\nin two lines, \x1b[31mred"
    assert error["exception"].splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("ours", "first"), [(True, "<6>a segment"), (False, "INFO    a segment")])
def test_the_journal_is_recognised(tmp_path: Path, *, ours: bool, first: str) -> None:
    """Systemd names the stream that it reads; one that was redirected since is not the journal."""
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        named = f"{status.st_dev}:{status.st_ino if ours else status.st_ino + 1}"
        environment = {**os.environ, "JOURNAL_STREAM": named}
        subprocess.run([sys.executable, "-c", SAY], stderr=stream, env=environment, check=True)
    assert (tmp_path / "stderr").read_text().splitlines()[0].endswith(first)


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("text", "broadcaster: .*BROADCASTER_HLS_DIR is missing.*"),
        ("journal", "<3>.*BROADCASTER_HLS_DIR is missing.*"),
        ("json", r'\{"time": .*"level": "error".*BROADCASTER_HLS_DIR is missing.*\}'),
    ],
)
def test_the_last_line(
    form: str, pattern: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line with which the command fails has the form of all others."""
    monkeypatch.delenv("BROADCASTER_HLS_DIR", raising=False)
    assert main(["run", "--log-format", form]) == 2
    assert re.fullmatch(pattern, capsys.readouterr().err.removesuffix("\n"))
