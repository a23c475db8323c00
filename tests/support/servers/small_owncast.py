"""The simulated Owncast with a picture that costs a busy machine next to nothing."""

from pathlib import Path

from broadcaster.demo.encoder import DemoRendition
from tests.support.fakes.simulated_owncast import SimulatedOwncast

SMALL = (DemoRendition(320, 180, 200), DemoRendition(160, 90, 100))
FPS = 10


def small_owncast(
    hls_dir: Path, work_dir: Path, *, segment_seconds: int = 1, idle_overlap: float = 10.0
) -> SimulatedOwncast:
    """Two variants, as the demo has; segments are of one second by default."""
    return SimulatedOwncast(
        hls_dir,
        work_dir,
        segment_seconds=segment_seconds,
        variants=SMALL,
        fps=FPS,
        idle_overlap=idle_overlap,
    )
