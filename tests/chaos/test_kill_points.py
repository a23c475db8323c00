"""Killed at any boundary, or with the power gone, the service loses nothing and its playlists never lie.

Each short stream is killed once, at its N-th boundary (``tests.chaos.kill_points``), and judged
(``tests.chaos.kill_judge``): 0 segments lost, 0 listed or stored twice, 0 rules of playlists broken or
numbers used for other URLs, 0 objects deleted while listed or left undeleted.

``make test`` takes a sample: of some streams one boundary each, by ``CHAOS_SEED``; ``make chaos`` goes
through all boundaries of all streams, some 2,000, or every fifth with ``KILL_STEP=5``. One alone::

    KILL_AT=17 .venv/bin/pytest -s tests/chaos/test_kill_points.py -k "copied-names"
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.chaos.kill_episode import COPIED, DELETED, MEMORY, PLAIN, WITHOUT_IDS, Episode, Mode, Verdict
from tests.chaos.kill_judge import Evidence
from tests.chaos.power_cut import Behind
from tests.support.judges.watcher import Watcher

EVERY = bool(os.environ.get("CHAOS_SECONDS"))
SEED = int(os.environ.get("CHAOS_SEED") or 1)  # the same in each run of the tests
AT = int(os.environ.get("KILL_AT") or 0)
STEP = int(os.environ.get("KILL_STEP") or 1)
AT_ONCE = 4  # streams; most of the time they wait

CUTS = {
    "killed": None,
    "data-behind": Behind.DATA,
    "names-behind": Behind.NAMES,
    "log-behind": Behind.LOG,
    "all-behind": Behind.DATA | Behind.LOG,
}
SAMPLE = [
    (PLAIN, "killed"),
    (PLAIN, "all-behind"),
    (COPIED, "names-behind"),
    (COPIED, "log-behind"),
    (WITHOUT_IDS, "all-behind"),
    (DELETED, "killed"),
]
ALL = [(mode, cut) for mode in (PLAIN, COPIED) for cut in CUTS]
ALL += [(WITHOUT_IDS, "killed"), (WITHOUT_IDS, "all-behind"), (DELETED, "killed")]
STREAMS = ALL if EVERY or AT else SAMPLE


def test_a_segment_that_perished_stands_for_no_other() -> None:
    """What was shown before a power cut took it is not counted for a segment that is still on its way."""
    shown, on_its_way = "https://bucket/live/run0/0/seg-0.ts", "https://bucket/live/run1/0/seg-1.ts"
    evidence = Evidence(
        Watcher(""),
        record=[{"listed": shown, "gap": False, "variant": "0", "number": 0}],
        stored={"first": [shown], "second": [on_its_way]},
        finished={"first": "run 0/0/seg-0.ts", "second": "run 1/0/seg-1.ts"},
        perished={"first"},
    )
    assert evidence.lost(deleted=False) == ["lost: run 1/0/seg-1.ts"]


@pytest.mark.takes(15)
@pytest.mark.parametrize(("mode", "cut"), STREAMS, ids=lambda value: getattr(value, "name", value))
async def test_killed_at(tmp_path: Path, bucket: SeaweedBucket, mode: Mode, cut: str) -> None:
    """Whatever it was doing when it was killed, the four zeros hold once it runs again."""
    if mode.copied and not MEMORY.is_dir():
        pytest.skip(f"there is no {MEMORY}")
    chance = random.Random(f"{SEED} {mode.name} {cut}")
    print(f"\nCHAOS_SEED={SEED}")
    at_once = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def play(at: int) -> Verdict:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        async with at_once:
            verdict = await Episode(folder, bucket, mode, at, CUTS[cut]).play()
        wrong.extend(f"KILL_AT={at} ({verdict.where}): {fault}" for fault in verdict.faults)
        return verdict

    if AT or not EVERY:
        chosen = [AT or chance.randrange(1, mode.boundaries)]
    else:
        chosen = list(range(chance.randrange(STEP) + 1, (await play(0)).boundaries + 1, STEP))
    await asyncio.gather(*map(play, chosen))
    print("\n".join(wrong))
    assert wrong == []
