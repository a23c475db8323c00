"""``make bench``: figures that hold across machines, as ratios within one run, against what was promised."""

import argparse
import sys

from tests.bench import (
    crowd,
    delta,
    fetching,
    first_frame,
    long_run,
    playlist_rate,
    publish_overhead,
    recordings,
    relay,
    slow_clients,
    tracker_load,
    wake_up,
)
from tests.bench.report import Figure, show

BENCHES = {
    "playlists": playlist_rate.measure,
    "wake-up": wake_up.measure,
    "delta": delta.measure,
    "tracker": tracker_load.measure,
    "crowd": crowd.measure,
    "slow-clients": slow_clients.measure,
    "first-frame": first_frame.measure,
    "publish": publish_overhead.measure,
    "long-run": long_run.measure,
    "recordings": recordings.measure,
    "relay": relay.measure,
    "fetching": fetching.measure,
}


def main() -> int:
    """Run the benches named (all by default); the exit status is 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which benches (default: all)")
    names = parser.parse_args().names or list(BENCHES)
    figures: list[Figure] = []
    for name in names:
        figures += BENCHES[name]()
    return show(figures)


if __name__ == "__main__":
    sys.exit(main())
