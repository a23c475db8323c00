"""Whether the encoder has left for good, by what is known of it from elsewhere."""

from __future__ import annotations

from typing import Protocol

FLUSH = 1.5  # seconds in which the last segments are found after their encoder has gone


class Encoder(Protocol):
    """What is known of the encoder from elsewhere."""

    @property
    def connected(self) -> bool | None:
        """Whether it is connected; None while that is not known."""

    @property
    def disconnected_since(self) -> float | None:
        """Since when it is known to have gone (monotonic); None while it is not."""

    def ask(self) -> None:
        """Find out soon whether it is still connected."""


def has_left(encoder: Encoder | None, grace: float | None, last_segment: float, now: float) -> bool:
    """Whether it has been gone for ``grace`` seconds, and for 1.5 at least; never where nothing is known.

    ``last_segment`` and ``now`` are monotonic. An encoder whose segments go on has not gone, whatever is said
    of it: what is known may be of another one.
    """
    if encoder is None or grace is None or encoder.connected is not False:
        return False
    since = encoder.disconnected_since
    # Some of the last segments may be found after it has gone, but none that late.
    if since is None or last_segment > since + 2 * FLUSH:
        return False
    return now - max(since, last_segment) > max(grace, FLUSH)
