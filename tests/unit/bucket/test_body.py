"""A rate that is kept when a file is uploaded beside a stream."""

import pytest

from broadcaster.bucket.body import PACED_PIECE, MonitoredPayload, Pace


class Wire:
    """Takes what is written."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    async def write(self, piece: bytes) -> None:
        self.pieces.append(len(piece))


async def test_all_parts_together_keep_to_the_rate() -> None:
    """Each piece waits until those before it have had their time, whichever part they are of."""
    now, slept = 1000.0, list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(PACED_PIECE * 2, lambda: now, sleep)  # two pieces a second
    for wire in (Wire(), Wire()):
        await MonitoredPayload(bytes(PACED_PIECE * 2 + 1), pace).write(wire)  # type: ignore[arg-type]
        assert wire.pieces == [PACED_PIECE, PACED_PIECE, 1]
    assert slept == pytest.approx([0, 0.5, 1, 1, 1.5, 2], abs=0.001)
    now += 60
    await pace(1)
    assert slept[-1] == 0
