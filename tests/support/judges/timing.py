"""Whether the time of an answer tells what was wrong."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

import aiohttp
from yarl import URL

from tests.support.judges.gate_cases import token
from tests.support.length import seconds

TRIES = seconds(1000, 150)  # of each kind
CERTAIN = 4.0  # standard deviations: one run in 16,000 finds as much where there is no difference


def rank_sum(times: Sequence[float], others: Sequence[float]) -> float:
    """By how many standard deviations the ranks of ``times`` are off their mean (Mann and Whitney)."""
    ordered = sorted([(taken, 0) for taken in times] + [(taken, 1) for taken in others])
    total, rank = 0.0, 0
    for _, same in groupby(ordered, key=lambda pair: pair[0]):
        kinds = [kind for _, kind in same]
        total += kinds.count(0) * (rank + (len(kinds) + 1) / 2)
        rank += len(kinds)
    count, other = len(times), len(others)
    mean = count * (count + other + 1) / 2
    return (total - mean) / math.sqrt(count * other * (count + other + 1) / 12)


async def take_as_long(ways: Mapping[str, Callable[[int], Awaitable[object]]], *, at_once: int = 1) -> None:
    """Assert that the times of two ways cannot be distinguished; both are tried in turns that are drawn."""
    turns = [(name, number) for name in ways for number in range(TRIES)]
    random.Random(1).shuffle(turns)
    times: dict[str, list[float]] = {name: [] for name in ways}
    room = asyncio.Semaphore(at_once)

    async def take(name: str, number: int) -> None:
        async with room:
            begun = time.perf_counter()
            await ways[name](number)
            times[name].append(time.perf_counter() - begun)

    await asyncio.gather(*(take(*turn) for turn in turns))
    off = rank_sum(*times.values())
    medians = (f"{1000 * statistics.median(taken):.3f} ms {name}" for name, taken in times.items())
    print(f"{TRIES} tries of each, median: {', '.join(medians)}; {off:+.1f} standard deviations apart")
    assert abs(off) < CERTAIN


async def check_forged_tokens(address: str) -> None:
    """Assert that no answer of a gate tells how much of a forged token is right."""
    valid = token(now=int(time.time()))
    begin, mac = valid[:-64], valid[-64:]
    other = "".join("0" if digit != "0" else "1" for digit in mac)
    forged = {
        "the first byte is wrong": begin + other[:2] + mac[2:],
        "the last byte is wrong": begin + mac[:-2] + other[-2:],
    }
    async with aiohttp.ClientSession() as session:

        async def ask(wrong: str, _: int) -> None:
            async with session.get(URL(f"{address}/t/{wrong}/live/playlist.m3u8", encoded=True)) as response:
                await response.read()
                assert response.status == 401

        await take_as_long({name: partial(ask, wrong) for name, wrong in forged.items()})
