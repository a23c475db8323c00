"""Finds settings that nobody reads, because their names are not quite those that are known."""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

OURS = "BROADCASTER_"  # what our names begin with, but for the bucket's


def misspelt(known: Collection[str], env_file: Path) -> list[str]:
    """What the environment and the file set under a name that begins as ours do and is none, for people."""
    return [
        f"{name} is not a setting{_meant(name, known)}"
        for name in sorted({*os.environ, *dotenv_values(env_file, interpolate=False)})
        if name.upper().startswith(OURS) and name.upper() not in known  # in any case, as the settings are
    ]


def _meant(name: str, known: Collection[str]) -> str:
    """The nearest name; what all begin with would make them all alike."""
    names = {one.removeprefix(OURS): one for one in known}
    nearest = get_close_matches(name.upper().removeprefix(OURS), names, n=1)
    return f" (perhaps {names[nearest[0]]} is meant)" if nearest else ""
