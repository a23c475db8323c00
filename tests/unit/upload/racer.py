"""A user who may write into the HLS folder, and swaps what is in it for something else while it is taken in.

As a program it swaps until it is killed: ``python -m tests.unit.upload.racer FOLDER VAULT``.
"""

import ctypes
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

NOBODY = 65534
AT_FDCWD, EXCHANGE = -100, 2
EVIL = ".evil"  # the name of what takes the place of something
HARD_LINK = ".hard"  # in the variant's folder, made beforehand: a second name of a file of the service's user
PAUSE = 0.002  # seconds at most

_libc = ctypes.CDLL(None, use_errno=True)


def exchange(path: Path, other: Path) -> bool:
    """Each has the other's name, at once; returns whether that could be done."""
    return not _libc.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), EXCHANGE)


def make_evil(kind: str, evil: Path, target: Path) -> None:
    """Make something that is no file of the encoder's."""
    match kind:
        case "link":
            evil.symlink_to(target)
        case "endless":
            evil.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(evil)
        case "folder":
            evil.mkdir()


def clear(evil: Path) -> None:
    """Remove what an exchange has left there."""
    with suppress(OSError):
        evil.rmdir() if evil.is_dir() and not evil.is_symlink() else evil.unlink(missing_ok=True)


def race(folder: Path, vault: Path) -> None:
    """Swap the newest files, the map, the playlist and the folder itself, each for a moment."""
    chance = random.Random()
    evil = folder / EVIL
    while True:
        names = [path for path in folder.glob("[!.]*") if not path.name.endswith(".m3u8")]
        if not names:
            continue
        newest = sorted(names, key=lambda path: int("0" + "".join(filter(str.isdecimal, path.name))))[-4:]
        maps = [path for path in names if path.name == "init.mp4"]
        name = chance.choice([*newest, *newest, *maps, *maps, folder / "stream.m3u8"])
        kind = chance.choice(["link"] * 6 + ["hard"] * 2 + ["endless", "pipe", "folder", "whole folder"])
        with suppress(OSError):
            if kind == "whole folder":
                name, other = folder, folder.parent / EVIL
                with suppress(FileExistsError):
                    other.symlink_to(vault)
            elif kind == "hard":
                other = folder / HARD_LINK
            else:
                other = evil
                clear(other)
                make_evil(kind, other, vault / name.name)
            was = name.lstat().st_ino
            if exchange(name, other):
                time.sleep(chance.uniform(0, PAUSE))
                if kind == "whole folder" or other.lstat().st_ino == was:
                    exchange(name, other)
        time.sleep(chance.uniform(0, PAUSE))


if __name__ == "__main__":
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    print("racing", flush=True)
    race(Path(sys.argv[1]), Path(sys.argv[2]))
