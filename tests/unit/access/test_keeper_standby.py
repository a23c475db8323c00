"""What a standby gets of a private event: sealed, it lets the same guests in, and nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from broadcaster.access import guest_of
from broadcaster.access.keeper import Keeper, adopt, seal, unseal
from broadcaster.ipc.messages import PassphraseAnswer, PassphraseTry
from tests.support.judges.gate_cases import NOW
from tests.support.waiting import eventually

SECRET = bytes(32)
WORDS = "a passphrase of some words"


def keeper_in(folder: Path, *peppers: bytes) -> Keeper:
    folder.mkdir(exist_ok=True)
    return Keeper(folder, mode="passphrase", peppers=peppers or [b"key"], clock=lambda: NOW)


def may_watch(keeper: Keeper, path: str) -> bool:
    grants = keeper.grants()
    token = path.removeprefix("/t/").rstrip("/")
    return guest_of(token, bytes.fromhex(grants.secret), grants.ends, NOW) is not None


def tried(keeper: Keeper, text: str) -> str | None:
    """The path that a passphrase opens, without a computed hash."""
    found = list[PassphraseAnswer]()
    keeper(PassphraseTry("1", text), found.append)
    return f"/t/{found[0].token}/" if found and found[0].token else None


async def test_the_same_guests(tmp_path: Path) -> None:
    """Links and cookies hold with the next leader, revoked ones do not, and the passphrase is the same."""
    first, folder = keeper_in(tmp_path / "a"), tmp_path / "b"
    stranger = keeper_in(folder)
    foreign = await stranger.invite("Nobody", NOW + 100)
    foreign_path = stranger.path_of(foreign)
    await first.lead(7)
    guest, revoked = [await first.invite(name, NOW + 100) for name in ("Aunt Rose", "Mallory")]
    await first.set_passphrase(WORDS)
    cookie = tried(first, WORDS)
    paths = [first.path_of(invitation) for invitation in (guest, revoked)]
    await first.revoke(revoked.grant)
    await first.close_doors(opens=NOW + 50)
    await first.open_doors(keep=True)
    adopt(folder, first.state())
    second = keeper_in(folder, b"another key")
    assert cookie
    assert [may_watch(second, path) for path in (*paths, cookie, foreign_path)] == [True, False, True, False]
    assert (second.names, second.doors, second.version) == (first.names, first.doors, first.version)
    assert [invitation.name for invitation in second.invitations] == ["Aunt Rose"]
    assert tried(second, WORDS) is None  # without the key it has to be computed
    assert "Nobody" in (folder / "access-invitations.before").read_text()


async def test_the_newer_state_holds(tmp_path: Path) -> None:
    """A state of an earlier leader, or an earlier one of this leader, replaces nothing."""
    first, folder = keeper_in(tmp_path / "a"), tmp_path / "b"
    states = list[str]()

    async def share() -> None:
        states.append(first.state())

    first.on_share = share
    await first.lead(7)
    invitation = await first.invite("Aunt Rose", NOW + 100)
    await first.revoke(invitation.grant)
    keeper_in(folder)
    adopt(folder, states[1])
    adopt(folder, states[0])
    assert list(keeper_in(folder).invitations) == []
    await first.lead(6)
    await first.invite("Aunt Rose", NOW + 100)
    second = keeper_in(folder)
    await second.lead(8)
    adopt(folder, states[2])
    assert list(keeper_in(folder).invitations) == []
    with pytest.raises(ValueError, match="version"):
        adopt(folder, "{}")


async def test_changes_at_a_time(tmp_path: Path) -> None:
    """Each has a number of its own, and holds here before a standby knows of it."""
    keeper, done = keeper_in(tmp_path), list[str | tuple[int, int]]()
    keeper.on_change = lambda grants: done.append(grants.doors.partition("-")[0])

    async def share() -> None:
        done.append(keeper.version)

    keeper.on_share = share
    await keeper.lead(7)
    await keeper.close_doors()
    await keeper.open_doors()
    await keeper.end_rehearsal()
    assert done == ["closed", (7, 1), "open", (7, 2), (7, 3)]
    done.clear()
    await asyncio.gather(*(keeper.invite(name, NOW + 100) for name in "abc"))
    assert keeper.version == (7, 6)
    assert done[-1] == (7, 6)
    assert keeper_in(tmp_path).version == (7, 6)


async def test_the_passphrase_is_recognised(tmp_path: Path) -> None:
    """After a takeover in a flood wrong ones cost nothing, and the right one gets through."""
    first, folder = keeper_in(tmp_path / "a"), tmp_path / "b"
    await first.lead(7)
    await first.set_passphrase(WORDS)
    file = tmp_path / "a" / "access-passphrase"
    file.write_text(file.read_text().partition("\n")[0])
    first, states = keeper_in(tmp_path / "a"), list[str]()
    keeper_in(folder)
    adopt(folder, first.state())
    assert keeper_in(folder).is_unconfirmed

    async def share() -> None:
        states.append(first.state())

    first.on_share = share
    computing = asyncio.create_task(first.run())
    first(PassphraseTry("1", WORDS), lambda _: None)
    await eventually(lambda: states)
    computing.cancel()
    adopt(folder, states[0])
    second = keeper_in(folder)
    assert (second.version, second.is_unconfirmed) == ((7, 1), False)
    for number in range(1000):
        assert tried(second, f"wrong {number}") is None
    assert tried(second, WORDS)
    assert second.computed == 0
    assert WORDS not in states[0]
    assert keeper_in(folder, b"another key").is_unconfirmed


async def test_a_state_of_another_release(tmp_path: Path) -> None:
    """Without a digest of the leader a standby keeps its own; fields of a newer release are no fault."""
    first, folder = keeper_in(tmp_path / "a"), tmp_path / "b"
    await first.lead(7)
    await first.set_passphrase(WORDS)
    keeper_in(folder)

    def state() -> str:
        return json.dumps(json.loads(first.state()) | {"digest": "", "more": 1})

    adopt(folder, state())
    second = keeper_in(folder)
    assert second.is_unconfirmed
    computing = asyncio.create_task(second.run())
    second(PassphraseTry("1", WORDS), lambda _: None)
    await eventually(lambda: tried(second, WORDS))
    await eventually(lambda: " " in (folder / "access-passphrase").read_text())
    computing.cancel()
    await first.lead(8)
    adopt(folder, state())
    again = keeper_in(folder)
    assert again.version == (8, 0)
    assert tried(again, WORDS)


def test_the_seal() -> None:
    """Nobody reads or changes it without the secret, and equal texts do not look equal."""
    text = "Aunt Rose, \N{PARTY POPPER}"
    sealed, again = seal(SECRET, text), seal(SECRET, text)
    assert (unseal(SECRET, sealed), unseal(SECRET, seal(SECRET, ""))) == (text, "")
    assert sealed[12:] != again[12:]
    assert b"Rose" not in sealed
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="another secret, or changed"):
            unseal(SECRET, bytes(changed))
    for wrong in (b"", sealed[:-1], sealed[1:]):
        with pytest.raises(ValueError, match="another secret"):
            unseal(SECRET, wrong)
    with pytest.raises(ValueError, match="another secret"):
        unseal(bytes(31) + b"1", sealed)
