"""``make bench``: figures that hold across machines, as ratios within one run, against what was promised."""

import argparse
import sys

from tests.bench import (
    crowd,
    delta,
    edge_overhead,
    fetching,
    first_frame,
    lease_overhead,
    long_run,
    origin,
    playlist_rate,
    publish_overhead,
    push_overhead,
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
    "push": push_overhead.measure,
    "edge": edge_overhead.measure,
    "lease": lease_overhead.measure,
    "long-run": long_run.measure,
    "recordings": recordings.measure,
    "relay": relay.measure,
    "origin": origin.measure,
    "fetching": fetching.measure,
}
IN_FULL = {"origin": origin.measure_in_full}  # what takes long


def main() -> int:
    """Run the benches named (all by default); the exit status is 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which benches (default: all)")
    parser.add_argument("--full", action="store_true", help=f"nothing scaled: {', '.join(IN_FULL)}")
    arguments = parser.parse_args()
    benches = {**BENCHES, **IN_FULL} if arguments.full else BENCHES
    names = arguments.names or list(IN_FULL if arguments.full else BENCHES)
    figures: list[Figure] = []
    for name in names:
        figures += benches[name]()
    return show(figures)


if __name__ == "__main__":
    sys.exit(main())
