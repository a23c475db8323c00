"""The state folder is nobody else's, whoever made it."""

import os
from pathlib import Path

import pytest

from broadcaster.own_files import NotOursError
from broadcaster.service.components import make_private
from tests.support.faults.other_user import another_user, open_folder


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
    assert caplog.messages == [f"{tmp_path} was open to other users (mode 755); it is closed now"]


def test_one_that_is_not_ours_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of other things, which would be lost to their readers, is logged and left open."""
    tmp_path.chmod(0o755)
    (tmp_path / "holiday.jpg").touch()
    make_private(tmp_path)
    assert mode(tmp_path) == 0o755
    assert "because it holds other things" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be only by root's rights")
@pytest.mark.parametrize("open_to", [0o755, 0o777])
def test_one_of_another_user(open_to: int) -> None:
    """Its owner can read and change all in it: it is refused, and the error says what to do."""
    with open_folder() as folder:
        folder.chmod(open_to)
        with another_user(), pytest.raises(NotOursError, match="choose another, or give it"):
            make_private(folder)


def test_one_that_others_fill(tmp_path: Path) -> None:
    """One with other things in it that others can write into is refused."""
    (tmp_path / "holiday.jpg").touch()
    tmp_path.chmod(0o777)
    with pytest.raises(NotOursError, match="choose another"):
        make_private(tmp_path)
    assert mode(tmp_path) == 0o777


def test_a_link_to_it(tmp_path: Path) -> None:
    """The operator may have linked it."""
    (tmp_path / "link").symlink_to(tmp_path / "state")
    make_private(tmp_path / "link")
    assert mode(tmp_path / "state") == 0o700
