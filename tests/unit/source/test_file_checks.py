"""Whatever an Owncast's folder lives through, every finished segment is reported in order and once."""

import errno
import logging
import math
import os
import random
import stat
from pathlib import Path

import pytest

from broadcaster.source.file_checks import open_inside
from tests.support.fakes.owncast_folder import OwncastLife
from tests.support.judges.scanner_judge import ScanWatcher


class Episode:
    """Some minutes of an Owncast and of our process, all by chance."""

    def __init__(self, root: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        chance = self.chance = random.Random(seed)
        self.life = OwncastLife(
            root / "hls", chance, older=chance.random() < 0.15, ids=chance.random() < 0.88
        )
        self.life.older |= not self.life.ids
        self.shown_in = chance.choice([1, 1, 2])
        self.restarts = chance.choice([0.0, 0.0, 0.2, 0.5])
        self.watcher = ScanWatcher(
            self.life,
            keen=chance.choice([0.0, 0.1, 0.6, 1.0]),
            poll=chance.choice([0.25, 0.25, 0.9, 3.0]),
            meddle=chance.choice([0.0, 0.0, 0.02, 0.2]),
        )
        self.variants = chance.choice([1, 2, 2, 2])
        self.private = chance.random() < 0.5

        def checked(folder: Path, path: Path) -> int:
            self.watcher.interrupt()
            descriptor = open_inside(folder, path)
            if stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600:
                os.close(descriptor)
                raise PermissionError(errno.EACCES, "Permission denied")
            self.watcher.interrupt()
            return descriptor

        monkeypatch.setattr("broadcaster.source.file_checks.open_inside", checked)
        # A folder is listed as often as it changes, however long a busy machine takes.
        monkeypatch.setattr("broadcaster.source.scanner.LONG", math.inf)

    def pass_time(self, seconds: float) -> None:
        """Our own process may be restarted meanwhile."""
        chance, until = self.chance, self.life.time + seconds
        if chance.random() < self.restarts:
            self.watcher.live(self.life.time + chance.uniform(0, seconds))
            if chance.random() < 0.7:
                self.watcher.scan(cut=True)
            self.watcher.stop()
            self.watcher.live(min(until, self.life.time + chance.choice([0.0, 0.3, 3.0, 40.0])))
            self.watcher.start()
            self.watcher.forget_what_is_gone()
        self.watcher.live(until)

    def run(self) -> None:
        chance, life = self.chance, self.life
        if life.ids:
            life.idle(self.variants, chance.choice([0.1, 10.0]), self.shown_in)
        self.pass_time(chance.choice([0.5, 8.0, 15.0, 60.0]))
        for _ in range(chance.randint(1, 4)):
            if chance.random() < 0.15:
                self.variants = chance.choice([1, 2, 3])
            lengths = chance.choice([[2.0] * 40, [1.0] * 60, [3.0, 4.0, 6.0, 3.0, 3.0, 8.0] * 6])
            life.begin(self.variants, lengths)
            self.pass_time(chance.choice([0.2, 1.5, 4.0, 8.0, 12.0, 30.0]))
            how = chance.random()
            if not life.ids:
                life.leave(orderly=how < 0.5)
                self.pass_time(chance.choice([0.5, 0.5, 3.0, 20.0]))
            elif how < 0.25:
                life.kill()
                self.pass_time(chance.choice([0.1, 2.0]))
                life.idle(self.variants, chance.choice([8.0, 12.0]), self.shown_in)
                self.pass_time(chance.choice([0.2, 0.8, 3.0, 10.0]))
            else:
                life.end(orderly=how < 0.75, private=self.private)
                self.pass_time(chance.choice([0.5, 0.5, 3.0, 20.0]))
                if how > 0.8:
                    life.idle(self.variants, chance.choice([8.0, 12.0]), self.shown_in)
                    self.pass_time(chance.choice([0.2, 5.0, 45.0]))
        self.restarts = 0
        self.watcher.live(life.time + 12)
        self.watcher.check_end()


@pytest.mark.parametrize("seed", range(16))
def test_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Starts, ends, kills, reconnects, idle clips, restarts of ours, at any time."""
    episode = Episode(tmp_path, seed, monkeypatch)
    try:
        episode.run()
    except AssertionError as error:
        raise AssertionError("\n".join([*episode.life.trace[-100:], str(error)])) from error
    finally:
        episode.life.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
