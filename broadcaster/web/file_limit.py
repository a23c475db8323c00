"""How many files, and so connections, this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED_FILES = 64  # for the process itself


def raise_file_limit(wanted: int) -> int:
    """Allow this process as many open files as the system lets it; returns for how many clients there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # not everywhere is "unlimited" a number that one may ask for
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED_FILES))
