"""Folders, files and locks that somebody else has prepared are not taken for our own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broadcaster.admin import own_token
from broadcaster.bucket.lease import own_name, stored_name
from broadcaster.download.packs import PackFiles
from broadcaster.export.job import LOCK_FILE, own_while_working
from broadcaster.own_files import NotOursError, own_folder, own_lock, read_own
from tests.support.faults.other_user import NOBODY

TOKEN = "known to somebody else"


def planted_link(path: Path) -> None:
    """A link to a file that has it."""
    other = path.with_name("other")
    other.write_text(TOKEN)
    other.chmod(0o600)
    path.symlink_to(other)


def planted_name(path: Path) -> None:
    """A file that has another name, too."""
    path.write_text(TOKEN)
    path.chmod(0o600)
    path.with_name("other").hardlink_to(path)


def planted_open(path: Path) -> None:
    """A file that others may write into."""
    path.write_text(TOKEN)
    path.chmod(0o622)


def planted_by_another(path: Path) -> None:
    """A file of another user's."""
    if os.geteuid() != 0:
        pytest.skip("to give a file away takes root's rights")
    path.write_text(TOKEN)
    path.chmod(0o600)
    os.chown(path, NOBODY, NOBODY)


def planted_pipe(path: Path) -> None:
    """What would never end to be read."""
    os.mkfifo(path)


PLANTED = [planted_link, planted_name, planted_open, planted_by_another, planted_pipe]


@pytest.mark.parametrize("plant", PLANTED)
def test_a_foreign_token_is_made_anew(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """Who has put a token there does not become the operator, nor is another file written into."""
    plant(tmp_path / "operator-token")
    token = own_token(tmp_path)
    assert token != TOKEN
    assert own_token(tmp_path) == token == read_own(tmp_path / "operator-token", 0o077)
    if (tmp_path / "other").exists():
        assert (tmp_path / "other").read_text() == TOKEN


@pytest.mark.parametrize("plant", PLANTED)
def test_a_foreign_name_is_made_anew(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """Nor does a broadcaster take another one's name."""
    plant(tmp_path / "owner")
    name = own_name(tmp_path)
    assert name != TOKEN
    assert stored_name(tmp_path) == name


@pytest.mark.parametrize("plant", PLANTED)
def test_a_foreign_lock_is_refused(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """What is there is neither truncated nor locked."""
    plant(tmp_path / "lock")
    with pytest.raises(OSError, match=r"ours|symbolic"):
        own_lock(tmp_path / "lock")
    assert plant is planted_pipe or (tmp_path / "lock").read_text() == TOKEN


def test_a_lock_keeps_what_is_in_it(tmp_path: Path) -> None:
    """It is held by one at a time, and the file is as it was."""
    (tmp_path / "lock").write_text("mine")
    held = own_lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        own_lock(tmp_path / "lock")
    os.close(held)
    os.close(own_lock(tmp_path / "lock"))
    assert (tmp_path / "lock").read_text() == "mine"


def use_as_cache(folder: Path) -> None:
    """As a relay keeps what it has fetched."""
    packs = PackFiles(folder, 2**20)
    packs.open()
    packs.close()


def use_for_export(folder: Path) -> None:
    """As an export keeps what it goes on from."""
    with own_while_working(folder):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a folder away takes root's rights")
@pytest.mark.parametrize("use", [own_folder, use_as_cache, use_for_export])
def test_a_folder_of_another_user(tmp_path: Path, use: Callable[[Path], None]) -> None:
    """It is refused, with what to do, and nothing is put into it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(NotOursError, match="choose another"):
        use(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("use", [own_folder, use_as_cache, use_for_export])
def test_a_folder_that_others_fill(tmp_path: Path, use: Callable[[Path], None]) -> None:
    """One that others could write into is refused: what is in it may be theirs."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / LOCK_FILE).touch()
    folder.chmod(0o777)
    with pytest.raises(NotOursError, match="users could write into it"):
        use(folder)
    (folder / LOCK_FILE).unlink()
    use(folder)  # nothing is in it yet


@pytest.mark.parametrize("use", [own_folder, use_for_export])
def test_a_link_in_its_place(tmp_path: Path, use: Callable[[Path], None]) -> None:
    """What it leads to is left alone."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").symlink_to("elsewhere")
    with pytest.raises(NotOursError, match="is a symbolic link"):
        use(tmp_path / "folder")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_in_the_place_of_the_lock(tmp_path: Path) -> None:
    """An export does not empty the file that a link in its folder leads to."""
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "folder" / LOCK_FILE).symlink_to(tmp_path / "notes")
    with pytest.raises(OSError, match="symbolic"):
        use_for_export(tmp_path / "folder")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_folder_that_others_can_read(tmp_path: Path) -> None:
    """One of ours is closed to them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o755)
    own_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
