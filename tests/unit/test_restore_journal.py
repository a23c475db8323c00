"""deploy/restore_journal.py: the journal before a migration, restored by the service's own user."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/restore_journal.py"
SINCE = time.time() - 1000


def restore(folder: Path, served: str = "no", since: float = SINCE) -> subprocess.CompletedProcess[str]:
    environment = {"BROADCASTER_STATE_DIR": str(folder)}
    command = [sys.executable, "-I", str(SCRIPT), f"{since:.9f}", served]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def make(path: Path, text: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO facts VALUES ('text', ?)", [text])
    return path


def facts(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, value FROM facts"))


def test_the_newest_copy_takes_the_journals_place(tmp_path: Path) -> None:
    """Of several copies the latest schema's is restored; files of the other journal are removed."""
    make(tmp_path / "journal.db", "migrated")
    (tmp_path / "journal.db-wal").write_bytes(b"of the other")
    make(tmp_path / "journal.db.schema9", "nine")
    make(tmp_path / "journal.db.schema10", "ten")
    done = restore(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert facts(tmp_path / "journal.db") == {"text": "ten"}
    assert not (tmp_path / "journal.db-wal").exists()
    assert restore(tmp_path, since=time.time() + 1000).stdout == ""  # copies of earlier upgrades stay copies
    assert facts(tmp_path / "journal.db") == {"text": "ten"}


def test_numbers_that_viewers_have_seen_are_raised(tmp_path: Path) -> None:
    """A journal that a release has served from in the meantime says so, as after a power cut."""
    make(tmp_path / "journal.db.schema9", "nine")
    assert restore(tmp_path, "yes").returncode == 0
    assert facts(tmp_path / "journal.db") == {"text": "nine", "boot": "before a migration"}


@pytest.mark.parametrize("served", ["no", "yes"])
def test_what_is_no_copy_of_ours_is_left_alone(tmp_path: Path, served: str) -> None:
    """Links, pipes, folders, files with a second name, and other names are neither moved nor opened."""
    state, outside = tmp_path / "state", tmp_path / "outside"
    state.mkdir()
    outside.mkdir()
    private = make(outside / "private.db", "private")
    make(state / "journal.db", "migrated")
    (state / "journal.db.schema1").symlink_to(private)
    os.link(private, state / "journal.db.schema2")
    os.mkfifo(state / "journal.db.schema3")
    (state / "journal.db.schema4").mkdir()
    for name in ("journal.db.schema1.conf", "journal.db.schema", "journal.db.schema-1", "journal.db.schema٣"):
        make(state / name, name)
    before = sorted(state.iterdir())
    done = restore(state, served)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(state.iterdir()) == before
    assert facts(state / "journal.db") == {"text": "migrated"}
    assert facts(private) == {"text": "private"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could do that")
def test_root_restores_nothing_for_another_user(tmp_path: Path) -> None:
    """As root it refuses a folder that another user owns."""
    make(tmp_path / "journal.db.schema9", "nine")
    os.chown(tmp_path, 65534, 65534)
    done = restore(tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        f"{tmp_path} is another user's: root restores nothing in it\n",
    )
    assert not (tmp_path / "journal.db").exists()


def test_install_sh_opens_nothing_in_the_state_folder() -> None:
    """No script that root runs names a path in the state folder, but to say how it is removed by hand."""
    for script in ("install.sh", "upgrade.sh"):
        lines = (SCRIPT.parent / script).read_text().splitlines()
        named = [line for line in lines if "STATE_DIR" in line or "/var/lib" in line]
        assert all(
            line.lstrip().startswith(("#", "say", "-e 's/^(BROADCASTER_STATE_DIR")) for line in named
        ), named
