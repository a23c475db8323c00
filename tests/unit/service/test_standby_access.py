"""Who may watch is in the bucket for the broadcaster that takes over, and nobody else can read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broadcaster.access.keeper import PASSPHRASE, Keeper, passphrase_in
from broadcaster.aio import USUAL
from broadcaster.config import Settings, load
from broadcaster.errors import ConfigError, StorageUnavailable
from broadcaster.ipc.messages import PassphraseAnswer, PassphraseTry
from broadcaster.service import standby
from broadcaster.service.components import peppers_of, shared_settings
from broadcaster.service.standby import SAME, SharedAccess, standby_report
from tests.support.fakes.lease_bucket import LeaseBucket
from tests.support.fakes.recorder_fixture import FakeObjectStore
from tests.support.waiting import PATIENCE, eventually

NEVER = 2**33  # seconds since the epoch


def settings_of(folder: Path, **more: str) -> Settings:
    (folder / "state").mkdir(parents=True, exist_ok=True)
    given = {
        "BROADCASTER_HLS_DIR": str(folder / "hls"),
        "BROADCASTER_STATE_DIR": str(folder / "state"),
        "BROADCASTER_STANDBY": "true",
        "BROADCASTER_ACCESS": "invitation",
        "BROADCASTER_ACCESS_SECRET": "of-both-broadcasters-and-nobody-else",
        "R2_ENDPOINT_URL": "http://127.0.0.1:9",
        "R2_BUCKET": "bucket",
        "R2_ACCESS_KEY_ID": "key",
        "R2_SECRET_ACCESS_KEY": "secret",
        "R2_PUBLIC_URL": "http://127.0.0.1:9/bucket",
    }
    return load(**{name: value for name, value in (given | more).items() if value})


@asynccontextmanager
async def leading(store: FakeObjectStore, settings: Settings) -> AsyncIterator[tuple[Keeper, SharedAccess]]:
    """A leader's keeper, and what writes its state into the bucket."""
    lease = LeaseBucket().owner("a", standby=True)
    await lease.renew()
    keeper = Keeper(settings.state_dir, mode=settings.access, peppers=peppers_of(settings))
    access = SharedAccess(store, settings)
    run = access.share(keeper, lease)

    async def write() -> None:
        await run()

    writing = asyncio.create_task(write())
    yield keeper, access
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing


async def test_the_next_leader_knows(tmp_path: Path) -> None:
    """An invitation or a revocation is in the bucket when the command returns; nothing there can be read."""
    store, settings = FakeObjectStore(), settings_of(tmp_path / "a")
    other = SharedAccess(store, settings_of(tmp_path / "b"))
    assert await other.adopt()
    assert str(other.fault) == "the leader has not written yet who may watch"
    async with leading(store, settings) as (keeper, access):
        for name in ("Aunt Rose", "Mallory"):
            invitation = await keeper.invite(name, NEVER)
        await keeper.revoke(invitation.grant)
        assert await other.adopt()
        assert [shared.fault for shared in (other, access)] == [None, None]
        found = Keeper(tmp_path / "b" / "state", mode="invitation")
        assert [invitation.name for invitation in found.invitations] == ["Aunt Rose"]
        assert found.grants() == keeper.grants()
        ((key, body),) = store.objects_.items()
        assert "access" not in key.removesuffix("-access.bin")
        for secret in (b"Rose", keeper.grants().secret.encode(), *map(str.encode, keeper.grants().ends)):
            assert secret not in body


async def test_the_next_leader_recognises_the_passphrase(tmp_path: Path) -> None:
    """By the secret of both, without which state folder and bucket have nothing but the argon2 hash of it."""
    store, words = FakeObjectStore(), "of some words"
    given = {"BROADCASTER_ACCESS": "passphrase"}
    ours, theirs = (settings_of(tmp_path / name, **given) for name in "ab")
    async with leading(store, ours) as (keeper, _):
        await keeper.set_passphrase(words)
        assert await SharedAccess(store, theirs).adopt()
    found = Keeper(theirs.state_dir, peppers=peppers_of(theirs))
    assert not found.is_unconfirmed
    answers = list[PassphraseAnswer]()
    for text in ("wrong words", words):
        found(PassphraseTry("1", text), answers.append)
    assert [answer.token is not None for answer in answers] == [False, True]
    alone = settings_of(tmp_path / "b", **given, BROADCASTER_STANDBY="", BROADCASTER_ACCESS_SECRET="")
    ((_, body),) = store.objects_.items()
    for settings in (ours, theirs):
        assert passphrase_in(settings.state_dir, peppers_of(settings)) == (True, True)
        assert passphrase_in(settings.state_dir, peppers_of(alone)) == (True, False)
        digest = (settings.state_dir / PASSPHRASE).read_text().split()[-1]
        assert bytes.fromhex(digest) not in body
        assert digest.encode() not in body


async def test_a_bucket_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stands by does not lead before it has read; who leads says that a standby does not know."""
    monkeypatch.setattr(standby, "READ_WITHIN", 0.1)
    monkeypatch.setattr(standby, "TRY_EVERY", 0.01)
    store = FakeObjectStore()
    other = SharedAccess(store, settings_of(tmp_path / "b"))
    async with leading(store, settings_of(tmp_path / "a")) as (keeper, access):
        await eventually(lambda: store.objects_)
        store.faults = [StorageUnavailable("no answer")] * 1000
        assert not await other.adopt()
        await keeper.invite("Aunt Rose", NEVER)
        assert access.fault == ("no answer", USUAL)
        store.faults.clear()
        monkeypatch.setattr(standby, "READ_WITHIN", PATIENCE)
        await eventually(lambda: access.fault is None)
        assert await other.adopt()
        assert len([*Keeper(tmp_path / "b" / "state", mode="invitation").invitations]) == 1


async def test_another_secret(tmp_path: Path) -> None:
    """A standby with another secret lets nobody in, and its health and the check say so."""
    store, settings = FakeObjectStore(), settings_of(tmp_path / "a")
    wrong = settings_of(tmp_path / "b", BROADCASTER_ACCESS_SECRET="another-one-that-is-as-long-as-the-first")
    other = SharedAccess(store, wrong)
    async with leading(store, settings) as (keeper, _):
        await keeper.invite("Aunt Rose", NEVER)
        assert await other.adopt()
    warning = standby_report(None, other).warning
    assert warning
    assert warning.startswith("stands by")
    assert f"the leader has another secret, or another release; {SAME}" in warning
    assert not Keeper(tmp_path / "b" / "state", mode="invitation").grants().ends
    ours, theirs = shared_settings(settings), shared_settings(wrong)
    assert [name for name in ours if ours[name] != theirs[name]] == ["BROADCASTER_ACCESS_SECRET"]
    assert not {"of-both-broadcasters-and-nobody-else", "secret"} & {*ours.values()}


@pytest.mark.parametrize(
    "wrong", [{"BROADCASTER_ACCESS_SECRET": ""}, {"BROADCASTER_GATE_FILE": "/run/gate.json"}]
)
def test_settings(tmp_path: Path, wrong: dict[str, str]) -> None:
    """A standby of a private event needs the secret, and has no gate in nginx."""
    with pytest.raises(ConfigError, match="BROADCASTER_ACCESS_SECRET, and no BROADCASTER_GATE_FILE"):
        settings_of(tmp_path, **wrong)
