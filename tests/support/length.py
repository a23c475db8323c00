"""How long a test watches: shortly in every run, at full length in ``make soak``."""

import os

SOAK = bool(os.environ.get("SOAK"))


def seconds(full: int, short: int) -> int:
    """The one or the other."""
    return full if SOAK else short
