"""What deploy/install.sh does with the end of input at a question (Ctrl-D in a terminal)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/install.sh"
END_OF_INPUT = b"\x04"
SETTINGS = {
    "R2_ENDPOINT_URL": "http://127.0.0.1:1",
    "R2_BUCKET": "bucket",
    "R2_PUBLIC_URL": "https://video.example.com",
    "R2_ACCESS_KEY_ID": "key",
    "R2_SECRET_ACCESS_KEY": "secret",
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("setsid"), reason="setsid gives it a terminal"
)


def asked(folder: Path, questions: list[bytes], **settings: str) -> str:
    """Install below ``folder`` in a terminal, with Ctrl-D at each question; returns all that is printed.

    Nothing is built: Python is a program that fails.
    """
    hls = folder / "hls"
    hls.mkdir()
    environment = {"PATH": os.environ["PATH"], "DESTDIR": str(folder), "PYTHON": "false"}
    environment |= {"BROADCASTER_HLS_DIR": str(hls), **settings}
    terminal, inside = os.openpty()
    command = ["setsid", "--ctty", "--wait", "bash", str(SCRIPT)]
    with subprocess.Popen(
        command, env=environment, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    ) as script:
        os.close(inside)
        printed = b""
        try:
            while piece := os.read(terminal, 4096):
                printed += piece
                if questions and questions[0] in printed:
                    os.write(terminal, END_OF_INPUT)
                    questions.pop(0)
        except OSError:  # EIO: the script has ended
            pass
        finally:
            os.close(terminal)
        assert script.wait(30) == 1
    assert not questions
    return printed.decode()


@pytest.mark.parametrize("missing", ["R2_BUCKET", "R2_SECRET_ACCESS_KEY"])
def test_a_setting_that_is_required(tmp_path: Path, missing: str) -> None:
    """The installation ends, and says which setting is missing."""
    printed = asked(tmp_path, [f"({missing}): ".encode()], **{**SETTINGS, missing: ""})
    assert f"install.sh: {missing} is missing" in printed
    assert "building" not in printed


def test_what_may_stay_unanswered(tmp_path: Path) -> None:
    """The installation goes on as with an empty line, until it builds the release."""
    printed = asked(tmp_path, [b"What stands in front of it", b"The page's public address"], **SETTINGS)
    assert "building" in printed
    settings = (tmp_path / "etc/broadcaster/broadcaster.env").read_text().splitlines()
    assert not [line for line in settings if line.startswith("BROADCASTER_TRUSTED_HEADER=")]
    assert not (tmp_path / "etc/broadcaster/page-address").read_text()
