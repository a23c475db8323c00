"""Invitations to a private event: each is a grant, with a link, a QR code and a date for calendars."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broadcaster.errors import NotPossible
from broadcaster.http.static import choose_language, text_of
from broadcaster.own_files import OTHERS, read_own, write_own

logger = logging.getLogger(__name__)

MOST = 2000
MOST_BYTES = 2**21  # of the file
LINE = 74  # octets of a line of a calendar (RFC 5545, 3.1)
SCALE = 8  # pixels of a module of the QR code


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation; times are seconds since the epoch. ``opened``: how often its link was opened."""

    grant: str
    name: str
    created: int
    until: int
    crew: bool = False
    opened: int = 0


_file: TypeAdapter[list[Invitation]] = TypeAdapter(list[Invitation])


class Invitations:
    """The invitations of an event, in a file of the state folder. Raises OSError when it cannot be read."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._by_grant: dict[str, Invitation] = {}
        if text := read_own(file, OTHERS, MOST_BYTES):
            try:
                self._by_grant = {invitation.grant: invitation for invitation in _file.validate_json(text)}
            except ValidationError:
                logger.error("%s is damaged: its invitations are not valid any more", file)

    def __iter__(self) -> Iterator[Invitation]:
        return iter(self._by_grant.values())

    def __getitem__(self, grant: str) -> Invitation:
        """The invitation of a grant. Raises KeyError."""
        return self._by_grant[grant]

    def add(self, name: str, now: int, until: int, *, crew: bool = False) -> Invitation:
        """Make an invitation. Raises NotPossible."""
        if until <= now:
            raise NotPossible("an invitation ends in the future")
        if len(self._by_grant) >= MOST:
            raise NotPossible(f"there are {MOST} invitations: revoke some, or invite several guests with one")
        invitation = Invitation(secrets.token_hex(8), name, now, until, crew)
        self._by_grant[invitation.grant] = invitation
        return invitation

    def revoke(self, grant: str) -> None:
        """Forget an invitation. Raises KeyError."""
        del self._by_grant[grant]

    def count(self, opened: Mapping[str, int]) -> bool:
        """Add to the numbers of opened links; returns whether any has changed."""
        known = {grant: times for grant, times in opened.items() if grant in self._by_grant}
        for grant, times in known.items():
            invitation = self._by_grant[grant]
            self._by_grant[grant] = replace(invitation, opened=invitation.opened + times)
        return bool(known)

    def text(self) -> str:
        """The content of the file."""
        return json.dumps([asdict(invitation) for invitation in self])

    def write(self, text: str) -> None:
        """Replace the file. Raises OSError."""
        write_own(self._path, text)


def card(invitation: Invitation, link: str, event: Mapping[str, object], now: datetime) -> dict[str, Any]:
    """What the operator sends to a guest: the link as a QR code, and the date of the event for calendars.

    ``event`` has ``title`` and ``startsAt`` of the page's settings. Without a date, ``ics`` is None.
    """
    import segno  # noqa: PLC0415 - only invitations need it

    code = segno.make(link, error="m", micro=False)
    png = io.BytesIO()
    code.save(png, kind="png", scale=SCALE)
    return {
        "link": link,
        "svg": code.svg_inline(scale=SCALE),
        "png": base64.b64encode(png.getvalue()).decode(),
        "ics": _calendar(invitation, link, event, now),
    }


def _calendar(invitation: Invitation, link: str, event: Mapping[str, object], now: datetime) -> str | None:
    """The event for calendars (RFC 5545); None without a date."""
    try:
        starts = datetime.fromisoformat(str(event.get("startsAt", "")).strip())
    except ValueError:
        return None
    local = "" if starts.tzinfo is None else "Z"  # a time without a zone is that of the reader's place
    starts = starts if starts.tzinfo is None else starts.astimezone(UTC)
    title = event.get("title")
    if not isinstance(title, str) or not title.strip():
        title = text_of(choose_language("", event.get("language")), "gateTitle")
    lines = (
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//broadcaster//EN",
        "BEGIN:VEVENT",
        f"UID:{invitation.grant}@broadcaster",
        f"DTSTAMP:{now.astimezone(UTC):%Y%m%dT%H%M%SZ}",
        f"DTSTART:{starts:%Y%m%dT%H%M%S}{local}",
        f"SUMMARY:{_escaped(title)}",
        f"DESCRIPTION:{_escaped(link)}",
        f"URL:{link}",
        "END:VEVENT",
        "END:VCALENDAR",
    )
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _escaped(text: str) -> str:
    for special in ("\\", ";", ","):
        text = text.replace(special, f"\\{special}")
    return " ".join(text.splitlines())


def _folded(line: str) -> str:
    """A line in pieces that are short enough (RFC 5545, 3.1)."""
    pieces, piece = [], ""
    for letter in line:
        if len((piece + letter).encode()) > LINE:
            pieces.append(piece)
            piece = ""
        piece += letter
    return "\r\n ".join([*pieces, piece])
