"""The state folder is nobody else's, whoever made it."""

from pathlib import Path

import pytest

from broadcaster.service.state_folder import make_private
from tests.support.users import another_user, open_folder


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


def test_a_new_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is made for its user alone, and found so at the next start."""
    folder = tmp_path / "above/state"
    make_private(folder)
    make_private(folder)
    assert mode(folder) == 0o700
    assert caplog.messages == []


@pytest.mark.parametrize("holds", [None, "journal.db"])
def test_one_that_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture, holds: str | None) -> None:
    """One that others can read is closed, and the log says so."""
    tmp_path.chmod(0o755)
    if holds:
        (tmp_path / holds).touch()
    make_private(tmp_path)
    assert mode(tmp_path) == 0o700
    assert caplog.messages == [f"{tmp_path} was open to other users (mode 755); now it is not"]


def test_one_that_is_not_ours_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of other things, which would be lost to their readers, is told of and left open."""
    tmp_path.chmod(0o755)
    (tmp_path / "holiday.jpg").touch()
    make_private(tmp_path)
    assert mode(tmp_path) == 0o755
    assert "not ours alone: it stays so" in caplog.text


def test_one_of_another_user(caplog: pytest.LogCaptureFixture) -> None:
    """What may not be closed is no reason not to stream."""
    with open_folder() as folder, another_user():
        if folder.owner() == "nobody":
            pytest.skip("there is one user only")
        make_private(folder)
        assert mode(folder) == 0o755
    assert "it stays so" in caplog.text
