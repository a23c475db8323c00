"""What others have written reaches a terminal, a log and a title without what cannot be seen."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster import admin_client, logs
from broadcaster.doctor.report import Report, Result
from broadcaster.owncast import parse
from broadcaster.printable import clean_title, printable, printable_json, size_text, span_text, write
from broadcaster.recordings.admin_api import ClipChange
from broadcaster.service.health import failed

# ESC, CRLF, CSI of C1, bidirectional controls, zero-width ones, BOM, line separators, a tag, a stray byte
HOSTILE = (
    *(
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\r\n",
        "\n",
        "\x08",
        "\x7f",
        "\x9b31m",
        "\x9d",
        "\x85",
        "\u202e",
        "\u202a",
    ),
    *(
        "\u2066",
        "\u2069",
        "\u200e",
        "\u200f",
        "\u061c",
        "\u200b",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u2028",
        "\u2029",
    ),
    *("\u00ad", "\U000e0041", "\udc80", "\ue000", "\x00"),
)


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.rstrip("\n").split("\n"))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_each_way_to_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors, lists, reports, log lines and JSON show it by its escape, in the line where it was."""
    title = f"a{text}ok b"
    row = {"id": title, "title": title, "duration": 1, "size": 1, "visibility": title, "ended": True}
    result = Result("name", title, failed(title, title), 0.0)
    assert len(result.text.split("\n")) == 2
    for said in (
        *(logs.last_line(title, form) for form in logs.FORMATS),
        admin_client._line(row),  # noqa: SLF001 - as it is written
        result.text,
        Report([result]).as_json(),
        printable_json(json.dumps({"title": title}, ensure_ascii=False)),
    ):
        assert is_harmless(said), said
    write(title)
    assert is_harmless(capsys.readouterr().out)
    assert json.loads(printable_json(json.dumps(title, ensure_ascii=False))) == title


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_titles_are_cleaned_where_they_enter(text: str) -> None:
    """Owncast's titles and the operator's: what cannot be seen is left out."""
    status = {"online": True, "lastConnectTime": None, "streamTitle": f"a{text}b"}
    found = parse(json.dumps(status).encode())
    assert found.title
    assert found.title.isprintable()
    if text[0] > "\x7f":
        title = f"a{text}b".encode(errors="replace").decode()
        assert ClipChange(title=title).title.isprintable()


def test_what_can_be_seen_stays() -> None:
    """Letters of all scripts, emoji and their joiners; blanks of all kinds are plain ones."""
    assert printable("Grüße, Ελλάδα, 日本 🎥") == "Grüße, Ελλάδα, 日本 🎥"
    assert printable("a\u00a0b\\n") == "a b\\n"
    assert clean_title(" Grüße\t 日本\n\u00a0x ") == "Grüße 日本 x"
    family, persian = "👨\u200d👩\u200d👧", "می\u200cشود"
    assert clean_title(f"{family} {persian}") == f"{family} {persian}"


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text(text: str) -> None:
    """Whatever it is, it is one line that can be seen; and a cleaned title stays as it is."""
    assert printable(text).isprintable()
    title = clean_title(text)
    assert clean_title(title) == title
    assert not set(title) & set("\x1b\x9b\u202e\u200b\r\n")


def test_a_terminal_that_knows_no_such_letters() -> None:
    """Where the terminal's encoding has no such character, its escape is written."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "ascii") as stream:
        write("é", stream)
        assert raw.getvalue() == b"\\xe9\n"


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202e", "\x9b31m"], ids=ascii)
def test_the_command_line_itself(text: str) -> None:
    """Arguments that are refused, addresses that cannot be read, and tracebacks are repeated printably."""
    commands = (["run", text], [text], ["export", f"http://127.0.0.1:9/{text}", f"out{text}.avi"])
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "broadcaster.cli", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert is_harmless(done.stderr), done.stderr
    raising = f"from broadcaster.printable import show_exceptions as s; s(); raise ValueError({text!r})"
    done = subprocess.run([sys.executable, "-c", raising], capture_output=True, text=True, check=False)
    assert "ValueError" in done.stderr
    assert is_harmless(done.stderr)


def test_figures_of_sentences_are_those_of_the_dashboard() -> None:
    """Sizes and times are written as the dashboard's modules write them, by the same table."""
    table = json.loads((Path(__file__).parents[2] / "viewer/tests/support/figures.json").read_text())
    assert [size_text(size) for size, _ in table["sizes"]] == [text for _, text in table["sizes"]]
    assert [span_text(seconds) for seconds, _ in table["spans"]] == [text for _, text in table["spans"]]
