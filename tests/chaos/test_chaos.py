"""Nothing is lost, whatever happens: real parts, and disasters at random moments.

The simulated Owncast streams two variants in segments of one second through the service, a process of its
own, into a real SeaweedFS, while, beside each other,

- the broadcaster is killed (SIGKILL) and started again,
- the bucket is frozen (SIGSTOP), or killed and started again on its data,
- the encoder crashes or stops, and comes back; once the stream ends and Owncast wipes its folder.

A strict viewer polls all playlists throughout. In the end four numbers have to be zero: finished segments
that are not in the bucket, objects that differ from what was finished, violations of the rules between
successive versions of a playlist, and listed URLs for which the bucket, while it was up, did not answer 200.
No finished segment may have been given up as a gap either. The same is true of what a second viewer sees at
the edge's Worker, to which the service pushes, and which is thrown out of memory or killed meanwhile. In a
longer run a relay stands beside, of whose playlists and segments the same is true.

``CHAOS_SECONDS`` is how long it goes on (30), ``CHAOS_SEED`` repeats what was done and when::

    CHAOS_SECONDS=180 CHAOS_SEED=7 .venv/bin/pytest -s tests/chaos
"""

import os
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.chaos.disasters import Chaos, Plan
from tests.support.judges.watcher import Availability, Watcher, watching
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.servers.relay import RelayWatcher, watching_relay
from tests.support.servers.worker import running_worker
from tests.support.waiting import eventually

SHORT = 30.0
SECONDS = float(os.environ.get("CHAOS_SECONDS") or SHORT)
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
DRAIN_WITHIN = 180.0  # seconds


@pytest.mark.takes(40)
async def test_nothing_is_lost(tmp_path: Path) -> None:
    """At the end of many disasters every finished segment is in the bucket, and no playlist ever lied."""
    plan, availability = Plan.of(SECONDS), Availability()
    hint = f"CHAOS_SECONDS={SECONDS:.0f} CHAOS_SEED={SEED}"
    print(f"\n{hint}", flush=True)
    async with (
        SeaweedBucket(tmp_path / "bucket") as bucket,
        running_worker(tmp_path) as worker,
        end_to_end(
            tmp_path,
            bucket,
            segment_seconds=1,
            patient=True,
            availability=availability,
            BROADCASTER_EDGE_URL=worker.address,
            BROADCASTER_EDGE_KEY=worker.key,
        ) as on,
        watching(worker.address, patient=True, bucket=availability) as at_edge,
        AsyncExitStack() as stack,
    ):
        through = None
        if SECONDS > SHORT:
            through = await stack.enter_async_context(watching_relay(tmp_path, on.service.address))
        await on.owncast.go_live()
        await on.watcher.until_number("0", 3)
        chaos = Chaos(on, plan, SEED, worker)
        await chaos.run()
        await on.owncast.wait_for_segments(3)
        await on.owncast.stop_streaming()
        chaos.say("stream ends for good")
        drained = await on.is_settled(within=DRAIN_WITHIN)
        chaos.say("drained" if drained else f"not drained: {await on.service.health()}")
        print(dict(chaos.done))
        await on.check_zeros(hint)
        assert drained, hint
        await check_zeros_at_edge(at_edge, on, hint)
        if through:
            await check_zeros_through(through, on, hint)
    assert chaos.done["edge evicted"] >= 1
    assert chaos.done["edge killed"] >= 1
    assert chaos.done["broadcaster killed"] >= plan.kills
    assert chaos.done["bucket frozen"] >= 1
    assert chaos.done["bucket killed"] >= 1
    assert chaos.done["encoder restarted"] >= 1
    assert chaos.done["folder wiped"] == 1


async def check_zeros_at_edge(at_edge: Watcher, on: EndToEnd, hint: str) -> None:
    """The edge has each variant's newest; no rule was broken there, and all that it listed could be had."""
    variants = sorted(on.watcher.versions)
    await eventually(
        lambda: (
            [at_edge.last(variant) for variant in variants]
            == [on.watcher.last(variant) for variant in variants]
        )
    )
    await at_edge.all_answered()
    different = [url for place, url in at_edge.listed.items() if on.watcher.listed.get(place, url) != url]
    versions = sum(map(len, at_edge.versions.values()))
    print(
        f"at the edge: {versions} versions of playlists, different {len(different)}, "
        f"violations {len(at_edge.violations)}, unanswered {len(at_edge.missing)}"
    )
    assert different == [], hint
    assert at_edge.violations == [], hint
    assert at_edge.missing == [], hint


async def check_zeros_through(relay: RelayWatcher, on: EndToEnd, hint: str) -> None:
    """What was had through a relay is what was finished, all of it could be had, and no rule was broken."""
    newest = {variant: on.watcher.last(variant) for variant in ("0", "1")}
    for variant, number in newest.items():
        await relay.until_number(variant, number)
    finished: dict[str, set[str]] = {}
    for key, digest in on.owncast.finished.items():
        finished.setdefault(key[2], set()).add(digest)
    different = [name for name, found in relay.digests.items() if not found <= finished.get(name, set())]
    print(f"through the relay: {len(relay.digests)} names, different {len(different)}, {relay.violations=}")
    assert different == [], hint
    assert relay.missing == [], hint
    assert relay.violations == [], hint
