"""Client of Owncast's status API: whether an encoder is connected.

The rules follow Owncast's source (``core/stats.go``, ``core/streamState.go``, ``controllers/status.go``):
``lastConnectTime`` is set when an encoder connects and null after it has disconnected. ``online`` stays false
for at least the first 7 seconds of a connection, so it is not used alone. A restarted Owncast has lost
``lastConnectTime`` and keeps the saved ``lastDisconnectTime``: it reports no encoder for a stream
that it never saw end.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import aiohttp

from broadcaster.aio import wait_at_most
from broadcaster.errors import EncoderError
from broadcaster.printable import clean_title

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two queries
MIN_INTERVAL = 0.5  # seconds, also after webhooks
TIMEOUT = 2.0  # seconds for an answer, its body included
MAX_BYTES = 65_536  # of an answer; usually 300
MAX_PICTURE = 2**20  # bytes; usually 50,000
PATIENCE = 30.0  # seconds without an answer until the log says so
RETURN = 10.0  # seconds for an encoder to reconnect to an Owncast that may have been restarted


@dataclass(frozen=True, slots=True)
class Status:
    """An answer of ``/api/status``. Times are by Owncast's clock, in whole seconds."""

    connected: bool
    connected_at: datetime | None  # None while no encoder is connected
    disconnected_at: datetime | None  # None while an encoder is connected, and before the first encoder
    title: str | None
    version: str | None


class NotThereError(EncoderError):
    """The answer is 404, with this body."""

    def __init__(self, path: str, body: bytes) -> None:
        super().__init__(f"{path} is answered 404")
        self.body = body


class PolledStatus:
    """An ``EncoderWatch``: the word of the program at ``url``, which ``run`` keeps up to date.

    A report of a disconnect counts at once if the program saw the known encoder disconnect. Otherwise it may
    have been restarted, and the encoder may still reconnect: the report counts after 10 s, and a query
    without an answer begins this time anew.
    """

    program = setting = ""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.connected: bool | None = None
        self.disconnected_since: float | None = None
        self.title: str | None = None
        self.fault: str | None = None
        self._url = url
        self._clock = clock
        self._asked = asyncio.Event()
        self._absent_since: float | None = None  # first of the latest answers without an encoder
        self._silent_since: float | None = None  # first of the latest queries without an answer
        self._warned = False
        self._logged = False  # ``connected`` in the latest log line

    def ask(self) -> None:
        """Query at once, or half a second after the latest query."""
        self._asked.set()

    async def run(self) -> None:
        """Query every second until cancelled."""
        async with open_session() as session:
            while True:
                self._asked.clear()
                try:
                    await self.poll(session)
                except EncoderError as error:
                    self.silent(str(error), self._clock())
                except Exception as error:
                    self.silent(f"it cannot be asked ({type(error).__name__})", self._clock())
                    raise
                await asyncio.sleep(MIN_INTERVAL)
                await wait_at_most(INTERVAL - MIN_INTERVAL, self._asked)

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask once, and note the answer. Raises EncoderError."""
        raise NotImplementedError

    def answered(self, *, connected: bool, now: float, seen: bool) -> None:
        """Note an answer; ``seen``: the program saw the known encoder disconnect."""
        if self._warned:
            logger.info("%s answers again", self.program)
        self._warned, self._silent_since, self.fault = False, None, None
        if connected:
            self._absent_since = self.disconnected_since = None
        else:
            if self._absent_since is None:
                self._absent_since = now
            if seen or now - self._absent_since >= RETURN:
                self.disconnected_since = self._absent_since
        self.connected = connected
        if connected is not self._logged:
            self._logged = connected
            word = "connected" if connected else "disconnected"
            logger.info("%s says that the encoder has %s", self.program, word)

    def silent(self, fault: str, now: float) -> None:
        """Note a query without an answer, and the reason."""
        self.connected = self.disconnected_since = self._absent_since = None
        self.fault = fault
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since > PATIENCE and not self._warned:
            self._warned = True
            logger.warning(
                "%s has not said for %.0f s whether the encoder is connected: %s; check its address (%s)",
                self.program,
                PATIENCE,
                fault,
                self.setting,
            )


class OwncastStatus(PolledStatus):
    """The status of the Owncast at ``url``; ``lastDisconnectTime`` shows what it saw."""

    program, setting = "Owncast", "BROADCASTER_OWNCAST_URL"
    _connected_at: datetime | None = None

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask once. Raises EncoderError."""
        self.heard(await fetch(session, self._url), self._clock())

    def heard(self, status: Status, now: float) -> None:
        """Note an answer."""
        if status.connected:
            self._connected_at = status.connected_at
        self.answered(connected=status.connected, now=now, seen=self._saw_disconnect(status))
        self.title = status.title

    def _saw_disconnect(self, status: Status) -> bool:
        """Whether Owncast itself saw the known encoder disconnect. Times are in whole seconds."""
        if self._connected_at is None or status.disconnected_at is None:
            return False
        return status.disconnected_at >= self._connected_at


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session without cookies and compression: answers of Owncast are small."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        yield session


async def fetch(session: aiohttp.ClientSession, url: str) -> Status:
    """The status of the Owncast at ``url``. Raises EncoderError."""
    return parse(await read(session, url, "/api/status", MAX_BYTES))


async def picture(url: str) -> bytes:
    """The latest picture of the stream as a JPEG. Raises EncoderError."""
    async with open_session() as session:
        return await read(session, url, "/thumbnail.jpg", MAX_PICTURE)


async def read(session: aiohttp.ClientSession, url: str, path: str, most: int) -> bytes:
    """The body of an answer of at most ``most`` bytes. Redirects are not followed. Raises EncoderError."""
    try:
        async with session.get(f"{url}{path}", allow_redirects=False) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                raise NotThereError(path, await response.content.read(most))
            if response.status != HTTPStatus.OK:
                raise EncoderError(f"{path} is answered {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise EncoderError(f"{path} is answered with more than {most // 1024} KiB")
    except TimeoutError:
        raise EncoderError(f"there is no answer within {TIMEOUT:.0f} s") from None
    except aiohttp.ClientConnectorDNSError:
        raise EncoderError("its name is not known") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
            raise EncoderError("it refuses connections") from None
        raise EncoderError(f"it cannot be reached ({type(error).__name__})") from None
    return bytes(body)


def parse(body: bytes) -> Status:
    """Read an answer of ``/api/status``. Raises EncoderError."""
    try:
        found = json.loads(body)
        online, connected_at = found["online"], _time(found["lastConnectTime"])
        disconnected_at = _time(found.get("lastDisconnectTime"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        online = None
    if not isinstance(online, bool):
        raise EncoderError("/api/status is not answered as Owncast does")
    return Status(
        online or connected_at is not None,
        connected_at,
        disconnected_at,
        clean_title(_text(found.get("streamTitle")) or "") or None,
        _text(found.get("versionNumber")),
    )


def _time(value: object) -> datetime | None:
    """A time of Owncast's (RFC 3339) with a time zone."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("a time is no text")
    time_ = datetime.fromisoformat(value)
    if time_.tzinfo is None:
        raise ValueError("a time without a time zone")
    return time_


def _text(value: object) -> str | None:
    """A text without the lone surrogates that JSON allows."""
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None
