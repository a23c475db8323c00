"""The doors of a private event: closed, the crew alone is let in; they open at a word or at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from yarl import URL

from broadcaster.access.keeper import Doors, Keeper
from broadcaster.errors import NotPossible
from broadcaster.http import listening
from broadcaster.ipc.messages import Grants
from tests.support.fakes.private_site import Site
from tests.support.judges.gate_cases import GRANT, NOW, SECRET, VALID
from tests.support.waiting import eventually


def keeper_in(folder: Path, doors: Literal["open", "closed"] = "closed", now: float = NOW) -> Keeper:
    return Keeper(folder, mode="invitation", doors=doors, clock=lambda: now)


async def test_closed_doors_let_the_crew_in(tmp_path: Path) -> None:
    """All others wait; when the doors open all are let in, also after a restart with the same setting."""
    keeper = keeper_in(tmp_path)
    guest = await keeper.invite("Aunt Rose", NOW + 100)
    crew = await keeper.invite("Sound", NOW + 200, crew=True)
    ends, waiting = {crew.grant: NOW + 200}, {guest.grant: NOW + 100}
    assert (keeper.grants().ends, keeper.grants().waiting) == (ends, waiting)
    assert keeper.is_rehearsing
    was = keeper.grants().doors
    opened = list[Doors]()

    async def note(doors: Doors) -> None:
        opened.append(doors)
        assert keeper.grants().ends == ends  # nobody is let in before what was is hidden

    keeper.on_open = note
    seen = list[Grants]()
    keeper.on_change = seen.append
    await keeper.open_doors()
    assert [doors.opened for doors in opened] == [NOW]
    for grants in (seen[-1], keeper.grants(), keeper_in(tmp_path).grants()):
        assert (grants.ends, grants.waiting) == (ends | waiting, {})
    assert seen[-1].doors != was  # what a gate in front has kept is of another time
    assert keeper.is_rehearsing
    await keeper.end_rehearsal()
    assert not keeper.is_rehearsing
    with pytest.raises(NotPossible):
        await keeper.open_doors()
    await keeper.close_doors()
    assert keeper.is_rehearsing
    assert (keeper.grants().ends, keeper.grants().waiting) == (ends, waiting)
    await keeper.open_doors(keep=True)
    assert opened[-1].opened is None
    assert not keeper.is_rehearsing


async def test_closed_since_the_first_start(tmp_path: Path) -> None:
    """What was before a restart is of the rehearsal, too, though nobody has opened or closed the doors."""
    assert keeper_in(tmp_path).doors.closed == NOW
    assert keeper_in(tmp_path, now=NOW + 3600).doors == Doors(open=False, closed=NOW)


async def test_what_the_closing_has_hidden(tmp_path: Path) -> None:
    """It is known until the doors open, also after a restart."""
    keeper = keeper_in(tmp_path, "open")
    done = list[object]()
    keeper.on_change = lambda grants: done.append(grants.doors.partition("-")[0])

    async def hide() -> tuple[str, ...]:
        done.append("hidden")
        return ("a", "b")

    keeper.on_close = hide
    await keeper.close_doors()
    await keeper.close_doors(opens=NOW + 60)
    assert done == ["hidden", "closed", "closed"]
    assert keeper_in(tmp_path).doors == Doors(open=False, closed=NOW, opens=NOW + 60, hidden=("a", "b"))
    await keeper.open_doors(keep=True)
    assert keeper_in(tmp_path).doors.hidden == ()


async def test_what_fails_lets_nobody_in(tmp_path: Path) -> None:
    """The doors stay closed if what was before cannot be hidden, and can be opened again."""
    keeper = keeper_in(tmp_path)

    async def fail(_: Doors) -> None:
        raise NotPossible("the catalog is away")

    keeper.on_open, does_nothing = fail, keeper.on_open
    with pytest.raises(NotPossible):
        await keeper.open_doors()
    assert not keeper.doors.open
    keeper.on_open = does_nothing
    await keeper.open_doors()
    assert keeper.doors.open


async def test_doors_that_open_at_a_time(tmp_path: Path) -> None:
    """They open by themselves, also in another process, and not before."""
    keeper = keeper_in(tmp_path, "open")
    with pytest.raises(NotPossible):
        await keeper.close_doors(NOW - 1)
    await keeper.close_doors(NOW + 3600)
    assert not keeper.doors.open
    later = keeper_in(tmp_path, now=NOW + 3600)
    work = asyncio.ensure_future(later.keep_time())
    await eventually(lambda: later.doors.open)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    assert later.doors.opened == NOW + 3600


async def test_a_guest_who_waits(tmp_path: Path) -> None:
    """The page says that the doors are closed, asks for nothing, and comes again by itself."""
    site = Site(tmp_path)
    site.server.handle(Grants(SECRET.hex(), {}, {GRANT: None}))
    async with (
        listening(site.server.app, "127.0.0.1", 0, "port") as address,
        aiohttp.ClientSession(headers={"Accept": "text/html", "Accept-Language": "de"}) as session,
    ):
        url = URL(f"{address}/t/{VALID}/", encoded=True)
        async with session.get(url, allow_redirects=False) as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["Refresh"]) == (401, "2")
        assert "Die Türen sind noch geschlossen" in text
        assert "<form" not in text
        site.server.handle(Grants(SECRET.hex(), {GRANT: None}))
        async with session.get(url, allow_redirects=False) as answer:
            assert answer.status == 303
