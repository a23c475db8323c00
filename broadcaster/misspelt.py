"""Finds settings that nobody reads, because their names are not quite those that are known."""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

OURS = "BROADCASTER_"  # what our names begin with, but for the bucket's
SHARED = "R2_"  # what the bucket's begin with; other programs have such names, too
NEAR, ALMOST = 0.7, 0.88  # how alike a name is to be taken for another; and one that does not begin as ours
FOREIGN = ("AWS_",)  # names of others that are like ours


def misspelt(known: Collection[str], env_file: Path, encoding: str = "utf-8") -> list[str]:
    """What the environment and the file set under a name that is nearly a setting's, for people."""
    names = {*os.environ, *dotenv_values(env_file, interpolate=False, encoding=encoding)}
    found = ((name, _meant(name.upper(), known)) for name in sorted(names) if name.upper() not in known)
    return [
        f"{name} is not a setting{f' (perhaps {meant} is meant)' if meant else ''}"
        for name, meant in found
        if meant or name.upper().startswith(OURS)
    ]


def _meant(name: str, known: Collection[str]) -> str | None:
    """The nearest name of a setting, if one is near; of ours, what all begin with would make all alike."""
    if name.startswith(OURS):
        names, cutoff = {one.removeprefix(OURS): one for one in known}, 0.6
    elif name.startswith(FOREIGN):
        return None
    else:
        names, cutoff = {one: one for one in known}, NEAR if name.startswith(SHARED) else ALMOST
    nearest = get_close_matches(name.removeprefix(OURS), names, n=1, cutoff=cutoff)
    return names[nearest[0]] if nearest else None
