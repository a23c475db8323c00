"""The passphrase of a private event: kept as a hash, compared seldom, no obstacle to who knows it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from broadcaster.access import TOKEN, guest_of
from broadcaster.access.keeper import Keeper, passphrase_in
from broadcaster.errors import NotPossible
from broadcaster.ipc.messages import Grants, PassphraseAnswer, PassphraseTry
from tests.support.length import seconds
from tests.support.waiting import eventually

NOW = 1_800_000_000
WORDS = "correct horse battery"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def keeper_in(folder: Path, clock: Clock | None = None, *peppers: bytes) -> Keeper:
    hasher = PasswordHasher(time_cost=1, memory_cost=1024)  # a test has no time for more
    monotonic = clock or Clock()
    return Keeper(folder, peppers=peppers, clock=lambda: float(NOW), monotonic=monotonic, hasher=hasher)


@asynccontextmanager
async def running(keeper: Keeper) -> AsyncIterator[None]:
    """The keeper at work."""
    work = asyncio.ensure_future(keeper.run())
    yield
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def answer_to(keeper: Keeper, text: str) -> PassphraseAnswer:
    answer: asyncio.Future[PassphraseAnswer] = asyncio.get_running_loop().create_future()
    keeper(PassphraseTry("1", text), answer.set_result)
    return await asyncio.wait_for(answer, 30)


async def test_a_right_and_a_wrong_passphrase(tmp_path: Path) -> None:
    """The right one gets a token of a day that the grants let in, however its letters are composed."""
    keeper = keeper_in(tmp_path)
    assert keeper.grants().ends == {}
    await keeper.set_passphrase("  Süßer die   Glocken ")
    async with running(keeper):
        answer = await answer_to(keeper, "Su\u0308ßer die Glocken")
        assert answer.token
        assert TOKEN.fullmatch(answer.token)
        grants = keeper.grants()
        secret = bytes.fromhex(grants.secret)
        assert guest_of(answer.token, secret, grants.ends, NOW + 86_399)
        assert not guest_of(answer.token, secret, grants.ends, NOW + 86_400)
        assert (await answer_to(keeper, "süßer die Glocken")).token is None


async def test_without_a_passphrase_nobody_passes(tmp_path: Path) -> None:
    """Before one is set, every try is wrong, also an empty one."""
    keeper = keeper_in(tmp_path)
    async with running(keeper):
        for text in ("", "anything"):
            assert await answer_to(keeper, text) == PassphraseAnswer("1")
    assert keeper.computed == 0


async def test_it_is_kept_as_a_hash_alone(tmp_path: Path) -> None:
    """After a restart the passphrase still opens, and no file has it; a token of before is still valid."""
    keeper = keeper_in(tmp_path)
    await keeper.set_passphrase(WORDS)
    token = (await answer_to(keeper, WORDS)).token
    files = {file.name: file for file in tmp_path.iterdir()}  # noqa: ASYNC240 - nothing else runs
    assert set(files) == {"access-secret", "access-passphrase"}
    assert files["access-passphrase"].read_text().startswith("$argon2id$")
    assert all(WORDS not in file.read_text() and file.stat().st_mode & 0o77 == 0 for file in files.values())
    again = keeper_in(tmp_path)
    assert again.names == keeper.names
    async with running(again):
        assert (await answer_to(again, WORDS)).token == token
    assert again.computed == 1


async def test_after_a_restart_the_right_one_is_known(tmp_path: Path) -> None:
    """With the key that is not in the state folder nothing is computed; with another key it is, once."""
    await keeper_in(tmp_path, None, b"a").set_passphrase(WORDS)
    for peppers, computed in (([b"a"], 0), ([b"b"], 1), ([b"b"], 0), ([], 1)):
        keeper = keeper_in(tmp_path, None, *peppers)
        assert keeper.is_unconfirmed is bool(computed)
        async with running(keeper):
            token = (await answer_to(keeper, WORDS)).token
            assert token
            assert (await answer_to(keeper, WORDS + "!")).token is None
        assert keeper.computed == computed, peppers
        await asyncio.wrap_future(keeper._writing.submit(lambda: None))  # noqa: SLF001 - what it has to write


async def test_whether_it_is_confirmed(tmp_path: Path) -> None:
    """It is once it was set, or entered; a new key of the bucket makes it unknown, as the check sees, too."""
    keeper = keeper_in(tmp_path, None, b"a")
    assert not keeper.is_unconfirmed
    assert passphrase_in(tmp_path, [b"a"]) == (False, False)
    await keeper.set_passphrase(WORDS)
    assert not keeper.is_unconfirmed
    assert passphrase_in(tmp_path, [b"a"]) == (True, True)
    assert passphrase_in(tmp_path, [b"b"]) == (True, False)
    keeper = keeper_in(tmp_path, None, b"b")
    async with running(keeper):
        await answer_to(keeper, WORDS + "!")
        assert keeper.is_unconfirmed
        await answer_to(keeper, WORDS)
        assert not keeper.is_unconfirmed
    await asyncio.wrap_future(keeper._writing.submit(lambda: None))  # noqa: SLF001 - what it has to write
    assert passphrase_in(tmp_path, [b"b"]) == (True, True)
    await keeper_in(tmp_path, None, b"c").set_passphrase(WORDS)
    assert passphrase_in(tmp_path, [b"c"]) == (True, True)


async def test_a_secret_that_comes_later(tmp_path: Path) -> None:
    """What was known by the bucket's key stays known, after the next right try by the new secret."""
    await keeper_in(tmp_path, None, b"bucket").set_passphrase(WORDS)
    keeper = keeper_in(tmp_path, None, b"secret", b"bucket")
    assert (await answer_to(keeper, WORDS + "!")).token is None
    assert not passphrase_in(tmp_path, [b"secret"])[1]
    assert (await answer_to(keeper, WORDS)).token
    await asyncio.wrap_future(keeper._writing.submit(lambda: None))  # noqa: SLF001 - what it has to write
    assert [passphrase_in(tmp_path, [pepper])[1] for pepper in (b"secret", b"bucket")] == [True, False]
    assert (await answer_to(keeper, WORDS)).token
    assert keeper.computed == 0


async def test_no_try_tells_how_near_it_was(tmp_path: Path) -> None:
    """One letter off, or all letters: the time of an answer is the same."""
    keeper = keeper_in(tmp_path, None, b"a")
    await keeper.set_passphrase(WORDS)
    tries = seconds(1000, 300)
    times: dict[str, list[float]] = {WORDS[:-1] + "x": [], "x" * len(WORDS): []}
    for _ in range(tries):
        for text, taken in times.items():
            begun = time.perf_counter()
            keeper(PassphraseTry("1", text), lambda _: None)
            taken.append(time.perf_counter() - begun)
    near, far = (statistics.median(taken) for taken in times.values())
    print(f"{tries} tries, median: {1e6 * near:.1f} us one letter off, {1e6 * far:.1f} us all letters off")
    assert abs(near - far) < 0.25 * far


async def test_another_passphrase(tmp_path: Path) -> None:
    """It ends the access of all who came with the former one."""
    keeper = keeper_in(tmp_path)
    seen: list[Grants] = []
    keeper.on_change = seen.append
    await keeper.set_passphrase(WORDS)
    token = (await answer_to(keeper, WORDS)).token
    assert token
    await keeper.set_passphrase("another one of these")
    assert (await answer_to(keeper, WORDS)).token is None
    grants = keeper.grants()
    assert seen[-1] == grants
    assert guest_of(token, bytes.fromhex(grants.secret), grants.ends, NOW) is None


@pytest.mark.parametrize("text", ["", "1234567", "       a", "x" * 201])
async def test_a_passphrase_that_is_none(tmp_path: Path, text: str) -> None:
    """A short one is easily guessed, and a long one cannot be typed into the page."""
    with pytest.raises(NotPossible):
        await keeper_in(tmp_path).set_passphrase(text)


async def test_a_flood_before_the_first_right_one(tmp_path: Path) -> None:
    """Of 1,000 tries at once after a restart 60 a minute are computed, and the newest come first."""
    await keeper_in(tmp_path).set_passphrase(WORDS)
    clock = Clock()
    keeper = keeper_in(tmp_path, clock)
    answers: list[PassphraseAnswer] = []
    async with running(keeper):
        for number in range(1000):
            keeper(PassphraseTry(str(number), f"wrong {number}"), answers.append)
        assert sum(answer.busy for answer in answers) == 800
        await eventually(lambda: keeper.computed, lambda computed: computed >= 30)
        begun = time.monotonic()
        clock.now += 2
        assert (await answer_to(keeper, WORDS)).token
        print(f"a right passphrase got through in {time.monotonic() - begun:.2f} s")
        assert keeper.computed == 31
        assert len(answers) == 1000  # all others are known to be wrong now


async def test_a_flood_afterwards(tmp_path: Path) -> None:
    """Once the right one is known, a flood computes nothing, and the right one gets through at once."""
    keeper = keeper_in(tmp_path)
    await keeper.set_passphrase(WORDS)
    for number in range(1000):
        assert (await answer_to(keeper, f"wrong {number}")).token is None
    assert (await answer_to(keeper, WORDS)).token
    assert keeper.computed == 0
