"""Invitations: each opens the event by its own link, is counted, and can be revoked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from prometheus_client import CollectorRegistry
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.access import guest_of
from broadcaster.access.invitations import Invitations
from broadcaster.access.keeper import INVITATIONS, Keeper
from broadcaster.admin import Access, make_operator_app, own_token
from broadcaster.errors import NotPossible
from broadcaster.ipc.messages import AccessMode, Grants, GuestCount, HealthReport
from broadcaster.recordings.admin_api import RecordingsAdmin
from tests.api_schemas import check_answer
from tests.support.waiting import eventually
from tests.unit.access.test_keeper import NOW, WORDS
from tests.unit.test_admin_client import AdminRig

Ask = Callable[..., Awaitable[tuple[int, Any]]]
EVENT = {
    "pageUrl": "https://live.example.com/",
    "title": "The choir; sings, at " + "Christmas " * 9,
    "startsAt": "2027-12-24T20:00:00+01:00",
}
LATER = "2027-12-25T00:00:00+01:00"


def keeper_in(folder: Path, mode: AccessMode = "invitation") -> Keeper:
    return Keeper(folder, mode=mode, clock=lambda: float(NOW))


def is_let_in(keeper: Keeper, path: str, now: int = NOW) -> bool:
    grants = keeper.grants()
    return guest_of(path.split("/")[2], bytes.fromhex(grants.secret), grants.ends, now) is not None


async def test_an_invitation_opens_until_its_end(tmp_path: Path) -> None:
    """Its path is valid until its time is over, also after a restart; others stay valid."""
    keeper = keeper_in(tmp_path)
    seen: list[Grants] = []
    keeper.on_change = seen.append
    aunt = await keeper.invite("Aunt Rose", NOW + 100)
    uncle = await keeper.invite("Uncle Ben", NOW + 200, crew=True)
    paths = [keeper.path_of(invitation) for invitation in (aunt, uncle)]
    assert seen[-1] == keeper.grants()
    assert all(is_let_in(keeper, path) for path in paths)
    assert is_let_in(keeper, paths[0], NOW + 99)
    assert not is_let_in(keeper, paths[0], NOW + 100)
    again = keeper_in(tmp_path)
    assert [again.path_of(invitation) for invitation in again.invitations] == paths
    assert [invitation.crew for invitation in again.invitations] == [False, True]
    await again.revoke(aunt.grant)
    assert not is_let_in(again, paths[0])
    assert is_let_in(again, paths[1])
    assert [invitation.name for invitation in keeper_in(tmp_path).invitations] == ["Uncle Ben"]
    file = tmp_path / INVITATIONS
    assert file.stat().st_mode & 0o77 == 0
    assert paths[1].split("/")[2] not in file.read_text()


async def test_a_passphrase_beside_invitations(tmp_path: Path) -> None:
    """In mode ``passphrase`` both open the event; in mode ``invitation`` a passphrase of before does not."""
    keeper = keeper_in(tmp_path, "passphrase")
    await keeper.set_passphrase(WORDS)
    await keeper.invite("Aunt Rose", NOW + 100)
    assert sorted(end or 0 for end in keeper.grants().ends.values()) == [0, NOW + 100]
    strict = keeper_in(tmp_path)
    assert list(strict.grants().ends.values()) == [NOW + 100]
    assert not strict.has_passphrase
    with pytest.raises(NotPossible):
        await strict.set_passphrase(WORDS)


async def test_counts_are_kept(tmp_path: Path) -> None:
    """How often a link was opened outlives the process; a revoked invitation is not counted any more."""
    keeper = keeper_in(tmp_path)
    invitation = await keeper.invite("Everybody", NOW + 100)
    work = asyncio.ensure_future(keeper.keep_counts())
    keeper.count([GuestCount(invitation.grant, 2, 5), GuestCount("0" * 16, 1, 1)])
    await eventually(
        lambda: [other.opened for other in Invitations(tmp_path / INVITATIONS)], lambda found: found == [2]
    )
    work.cancel()
    assert keeper.watching[invitation.grant] == 5
    keeper.count([])
    assert keeper.watching == {}


async def test_a_damaged_file(tmp_path: Path) -> None:
    """It invites nobody, and does not keep the service from starting."""
    file = tmp_path / INVITATIONS
    file.write_text("[{}]")
    file.chmod(0o600)
    assert keeper_in(tmp_path).grants().ends == {}


@pytest.fixture
async def ask(tmp_path: Path, aiohttp_client: AiohttpClient) -> AsyncIterator[Ask]:
    """The operator's API of a private event."""
    rig = AdminRig(tmp_path)
    admin: RecordingsAdmin = rig.admin
    app = make_operator_app(
        lambda: HealthReport("offline", 0, None),
        CollectorRegistry(),
        recordings=admin,
        access=Access(keeper_in(tmp_path), lambda: EVENT, "http://127.0.0.1:3000"),
    )
    client = await aiohttp_client(app)
    headers = {"Authorization": f"Bearer {own_token(tmp_path)}"}

    async def answer(method: str, path: str, **options: Any) -> tuple[int, Any]:  # noqa: ANN401
        async with client.request(method, f"/api/{path}", **{"headers": headers, **options}) as response:
            body = await response.json() if response.content_type.endswith("json") else None
        check_answer(method, f"/api/{path}", response.status, body)
        return response.status, body

    yield answer
    rig.stream.catalog.close()


async def test_the_operators_api(ask: Ask) -> None:
    """The API makes an invitation with a link to the page, lists it, shows its card and revokes it."""
    assert (await ask("GET", "access"))[1]["access"] == "invitation"
    status, made = await ask("POST", "access/invitations", json={"name": "Aunt Rose", "until": LATER})
    assert status == 201
    assert made["link"] == "https://live.example.com" + made["path"]
    assert (made["opened"], made["watching"], made["crew"]) == (0, 0, False)
    assert (await ask("GET", "access/invitations"))[1] == {"invitations": [made]}
    _, card = await ask("GET", f"access/invitations/{made['id']}")
    assert base64.b64decode(card["png"]).startswith(b"\x89PNG")
    assert ET.fromstring(card["svg"]).tag.endswith("svg")
    lines = card["ics"].split("\r\n")
    assert all(len(line.encode()) <= 75 for line in lines)
    text = card["ics"].replace("\r\n ", "")
    assert "DTSTART:20271224T190000Z\r\n" in text
    assert "SUMMARY:The choir\\; sings\\, at Christmas" in text
    assert f"URL:{made['link']}\r\n" in text
    assert (await ask("DELETE", f"access/invitations/{made['id']}"))[0] == 200
    assert (await ask("DELETE", f"access/invitations/{made['id']}"))[0] == 404
    assert (await ask("GET", "access/invitations"))[1] == {"invitations": []}


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "until": LATER},
        {"name": "a\nb", "until": LATER},
        {"name": "a", "until": "2027-12-25T00:00:00"},
        {"name": "a"},
        {"name": "a", "until": LATER, "more": 1},
    ],
)
async def test_an_invitation_that_makes_no_sense(ask: Ask, body: dict[str, Any]) -> None:
    """It is refused, and says what is wrong."""
    status, found = await ask("POST", "access/invitations", json=body)
    assert status == 400
    assert "makes no sense" in found["error"]


async def test_an_invitation_for_the_past(ask: Ask) -> None:
    """It would open nothing."""
    body = {"name": "a", "until": "2020-01-01T00:00:00Z"}
    assert (await ask("POST", "access/invitations", json=body))[0] == 409
