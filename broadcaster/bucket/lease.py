"""The lease of a prefix: one object in the bucket says which of several broadcasters leads.

Whoever leads renews the object by compare-and-swap, and writes its epoch with all that it changes in the
bucket. The epoch rises with each taking and never falls. No clocks are compared: another broadcaster takes
the lease when it has seen no change of the object for the record's TTL; the leader doubts after two thirds.
``Election`` decides, without I/O; ``PrefixLease`` asks the bucket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from broadcaster.aio import Signal, boot_time, wait_at_most
from broadcaster.bucket.client import ObjectStore
from broadcaster.catalog.records import Numbers, unguessable
from broadcaster.errors import NotLeading, ObjectNotFound, Problem, StorageError
from broadcaster.metrics import Metric
from broadcaster.own_files import read_own, write_own

logger = logging.getLogger(__name__)

MARGIN = 10_000  # above the numbers of a lease: more than a leader lists between two renewals
LIVE_TTL = 10.0  # seconds
IDLE_TTL = 180.0  # seconds: 1,440 renewals a day
ALIVE = IDLE_TTL  # seconds after its latest write for which a broadcaster counts as running
RENEWALS, IDLE_RENEWALS, LOOKS = 4, 3, 8  # in a TTL
DOUBT = 2 / 3  # of the TTL: then the leader has to renew before it changes anything
TICK = 0.5  # seconds, at most, between two questions whether something is due
DEADLINE = 10.0  # seconds for one request
# Writes of a leader over the same version, after one that was refused or had no answer. That saves a look
# where answers are slow, and changes nothing if another one has written: then the bucket refuses them all.
TRIES = 1
STEPS = 4  # of one renewal: a look, a write, and another look after a lost race
NO_NUMBERS = Numbers()
FILE = "owner"  # in the state folder
VERSION, MACHINE = "version", "machine"  # names in LeaseRecord.settings, beside those of settings
MACHINE_ID = Path("/etc/machine-id")
LARGEST_NUMBER = 2**52  # that JavaScript can count on from
YEARS, MOST = range(1970, 2200), 50  # of encoders, whose clocks may be wrong; variants


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of the lease object. ``at`` is for people: nothing is decided by it.

    Earlier releases wrote ``owner`` and ``at`` alone. ``standby`` says that the writer does not take the lead
    from others, ``run`` names its process, ``beat`` counts its writes. ``numbers`` are those of the playlists
    at that time. ``wanted`` names a standby that asks for the lead, ``free`` says that the writer gave it up.
    ``settings`` are those of the writer that a standby should have as well; empty in earlier releases.
    """

    owner: str
    at: datetime
    epoch: int = 0
    ttl: float = IDLE_TTL
    standby: bool = False
    run: str = ""
    beat: int = 0
    numbers: Numbers = NO_NUMBERS
    wanted: str = ""
    free: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> bytes:
        """The content as JSON."""
        return json.dumps(
            {
                "owner": self.owner,
                "at": self.at.isoformat(),
                "epoch": self.epoch,
                "ttl": self.ttl,
                "standby": self.standby,
                "run": self.run,
                "beat": self.beat,
                "sequence": self.numbers.sequence,
                "discontinuity": self.numbers.discontinuity,
                "end": self.numbers.end and self.numbers.end.isoformat(),
                "variants": None if self.numbers.variants is None else sorted(self.numbers.variants),
                "wanted": self.wanted,
                "free": self.free,
                "settings": dict(self.settings),
            }
        ).encode()

    @staticmethod
    def parse(body: bytes) -> LeaseRecord:
        """Parse the content; raises ValueError."""
        try:
            found = json.loads(body)
            return LeaseRecord(
                str(found["owner"]),
                datetime.fromisoformat(found["at"]).astimezone(),
                _number(found.get("epoch", 0)),
                min(max(float(found.get("ttl", IDLE_TTL)), 1.0), IDLE_TTL),
                bool(found.get("standby", False)),
                str(found.get("run", "")),
                int(found.get("beat", 0)),
                Numbers(
                    _number(found.get("sequence", 1)),
                    _number(found.get("discontinuity", -1)),
                    _end(found.get("end")),
                    None if (names := found.get("variants")) is None else frozenset(map(str, names[:MOST])),
                ),
                str(found.get("wanted", "")),
                bool(found.get("free", False)),
                {str(name)[:40]: str(value)[:200] for name, value in found.get("settings", {}).items()},
            )
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            raise ValueError("not an owner's object") from None


def _number(value: float | str) -> int:
    return min(max(int(value), -1), LARGEST_NUMBER)


def _end(text: str | None) -> datetime | None:
    end = text and datetime.fromisoformat(text).astimezone(UTC)
    return end if end and end.year in YEARS else None


FOREIGN = LeaseRecord("", datetime.fromtimestamp(0, UTC))  # for an object that is no record


def owner_key(prefix: str, secret: bytes = b"") -> str:
    """The key of the lease object; with a ``secret``, only who has it finds the object."""
    return unguessable(f"{prefix}/owner.json", secret)


def stored_name(folder: Path) -> str | None:
    """The ID of the broadcaster in its state folder, None before the first start. Raises OSError."""
    return read_own(folder / FILE) or None


def own_name(folder: Path) -> str:
    """The ID of the broadcaster; a random one is made at the first start (host names are not unique)."""
    with contextlib.suppress(OSError):
        if name := stored_name(folder):
            return name
    name = secrets.token_hex(8)
    with contextlib.suppress(OSError):  # the next start makes another ID then
        write_own(folder / FILE, name)
    return name


def machine_id() -> str:
    """What tells this machine from others, and tells others nothing of it."""
    found = ""
    with contextlib.suppress(OSError):
        found = MACHINE_ID.read_text().strip()
    return hashlib.sha256(f"broadcaster {found or socket.gethostname()}".encode()).hexdigest()[:16]


class Step(StrEnum):
    """What to do next: read the object, or write ``Election.record`` over the version ``Election.etag``."""

    LOOK = "look"
    WRITE = "write"


class Election:
    """Decides what one process does with the lease. All times are of one steady clock, in seconds.

    ``next`` gives a step, ``note_version`` or ``note_write`` takes its outcome: none if the answer was lost.
    """

    def __init__(
        self,
        owner: str,
        run: str,
        *,
        standby: bool = False,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.etag: str | None = None  # of the latest known version
        self.found: LeaseRecord | None = None  # its content, None without an object
        self._latest: LeaseRecord | None = None  # content that was ever seen
        self.record: LeaseRecord  # that is written
        self.epoch: int | None = None  # while it leads, as far as it knows
        self.takeovers = 0  # from another broadcaster
        self.confirmed = -math.inf  # when the latest write was sent that the bucket has confirmed
        self.floor: Numbers | None = (
            None  # of a lead that was taken from another: all of its numbers are lower
        )
        self.left: datetime | None = None  # when that one has written last, by its clock
        self.must_hand_over = False  # whether a standby asks for the lead
        self.wants = False  # whether to ask for it
        self.gives_up = False  # whether to give it up, for good
        self._owner, self._run, self._standby, self._settings = owner, run, standby, settings
        self._highest = 0  # epoch that was ever seen
        self._known = False  # whether the latest known version may still be the bucket's
        self._tries = 0  # how often a leader may still write over that version before it looks
        self._seen = 0.0  # when that version was seen first
        self._looked = -math.inf
        self._may_take = False
        self._has_led = False
        self._ttl = IDLE_TTL  # the shortest that others may hold us to
        self._beat = 0

    def leads(self, now: float) -> bool:
        """Whether it leads and is not in doubt."""
        return now < self.leads_until

    @property
    def leads_until(self) -> float:
        """The end of the time for which it leads without doubt."""
        return -math.inf if self.epoch is None else self.confirmed + DOUBT * self._ttl

    @property
    def is_second(self) -> bool:
        """Whether another broadcaster leads, as far as it knows."""
        return self.epoch is None and self.found is not None and not self._may_take

    def doubt(self) -> None:
        """Look into the bucket before the next answer."""
        self._known, self._tries = False, 0

    def outbid(self, epoch: int) -> None:
        """Take the lease anew with a higher epoch: another one was used that the bucket does not know."""
        if self.epoch is not None and epoch >= self.epoch:
            self._highest = max(self._highest, epoch)
            self.epoch, self._may_take = None, True

    def next(self, now: float, ttl: float, at: datetime, numbers: Numbers = NO_NUMBERS) -> Step | None:
        """The step that is due.

        ``ttl`` is the TTL of a record that is written now, ``at`` the wall time, ``numbers`` are those of the
        playlists.
        """
        if not self._known and (self.epoch is None or not self._tries):
            return Step.LOOK
        if self.epoch is None and (self.gives_up or not self._may_take):
            return self._wait(now, ttl)
        every = ttl / (RENEWALS if ttl < IDLE_TTL else IDLE_RENEWALS)
        if self.epoch is not None and now - self.confirmed < every and ttl == self._ttl and not self.gives_up:
            return None
        # The wall time is a floor alone, for a lease that was lost: an epoch rises past each that was seen.
        epoch = self.epoch or max(self._highest + 1, int(1000 * at.timestamp()))
        self._beat += 1
        seen = self._latest.numbers if self._latest else NO_NUMBERS
        if self.epoch is None and self._is_anothers(self._latest):
            seen = seen.plus(MARGIN)  # where this leader begins: the next one has to begin after it
        self.record = LeaseRecord(
            *(self._owner, at, epoch, ttl, self._standby, self._run, self._beat),
            numbers=numbers.at_least(seen),
            free=self.gives_up,
            settings=self._settings,
        )
        self._ttl = min(self._ttl, ttl)  # the write may arrive without an answer
        self._tries = TRIES if self._known else self._tries - 1
        self._known = self._may_take = False
        return Step.WRITE

    def _wait(self, now: float, ttl: float) -> Step | None:
        found = self.found
        if self.wants and found and found.wanted != self._owner:
            self.record = replace(found, wanted=self._owner)
            self._known = False
            return Step.WRITE
        often = min(ttl, found.ttl if found else ttl) / LOOKS
        return Step.LOOK if now - self._looked >= min(often, TICK if self.wants else often) else None

    def note_version(self, sent: float, now: float, etag: str | None, found: LeaseRecord | None) -> None:
        """The bucket has this version; the request was sent at ``sent`` and answered ``now``."""
        if etag != self.etag:
            self.etag, self.found, self._seen = etag, found, now
        self._known, self._tries, self._looked = True, 0, sent
        self._highest = max(self._highest, found.epoch if found else 0)
        if found and found.run == self._run and not found.free:
            self._lead(found.epoch)  # perhaps by a write whose answer was lost
            self.must_hand_over |= bool(found.wanted)
        else:
            self.epoch = None
            self._may_take = found is None or self._is_free(sent, found)
        self._latest = found or self._latest

    def note_write(self, sent: float, etag: str | None) -> None:
        """The write that was sent at ``sent`` is stored; with None, the bucket had another version."""
        if etag is None:
            return
        self.etag, self.found, self._known = etag, self.record, True
        if self.record.run != self._run:
            self._seen = sent  # a leader that is asked has its whole TTL again
        elif self.record.free:
            self.epoch = None
        else:
            self._lead(self.record.epoch)
            self.confirmed, self._ttl = sent, self.record.ttl
        self._latest = self.record

    def _is_free(self, sent: float, found: LeaseRecord) -> bool:
        if found.free:
            return True
        if not self._has_led and (found.owner == self._owner or not (self._standby or found.standby)):
            return True  # of our last process, or of a state folder that was lost: no stream waits for that
        return sent - self._seen >= found.ttl

    def _lead(self, epoch: int) -> None:
        if self.epoch is None and (before := self._latest) and self._is_anothers(before):
            self.takeovers += 1
            self.floor, self.left = before.numbers.plus(MARGIN), before.at
        self.epoch, self._has_led = epoch, True

    def _is_anothers(self, record: LeaseRecord | None) -> bool:
        return record is not None and record.owner != self._owner


class PrefixLease:
    """Takes and renews the lease of the broadcaster ``name``, and says for each write whether it leads.

    ``ttl`` gives the TTL in seconds, ``numbers`` those of the playlists, ``clock`` the wall time, ``steady``
    a clock that goes on while the machine is suspended. A ``standby`` takes the lead from no broadcaster that
    renews it. ``settings`` are for the check of another one.
    """

    def __init__(  # noqa: PLR0913 - the bucket, whose lease it is, and the clocks
        self,
        store: ObjectStore,
        prefix: str,
        name: str,
        clock: Callable[[], datetime],
        steady: Callable[[], float] = boot_time,
        *,
        ttl: Callable[[], float] = lambda: IDLE_TTL,
        standby: bool = False,
        secret: bytes = b"",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._key = owner_key(prefix, secret)
        self._prefix = prefix
        self._clock = clock
        self._steady = steady
        self.ttl = ttl
        self.numbers: Callable[[], Numbers] = Numbers
        self.changed = Signal()  # after each look and write
        self.is_standby = standby
        self._election = Election(name, secrets.token_hex(8), standby=standby, settings=settings)
        self._lock = asyncio.Lock()
        self._tried = asyncio.Event()
        self._soon = asyncio.Event()
        self._has_told = False

    @property
    def epoch(self) -> int | None:
        """The epoch while it leads, as far as it knows."""
        return self._election.epoch

    @property
    def leads(self) -> bool:
        """Whether it leads, and has renewed the lease in time."""
        return self._election.leads(self._steady())

    @property
    def leads_until(self) -> float:
        """The end of the time for which it leads without doubt, by its steady clock."""
        return self._election.leads_until

    @property
    def others_ttl(self) -> float:
        """The TTL of the latest record: seconds for which others have to wait for its writer."""
        return self._election.found.ttl if self._election.found else IDLE_TTL

    @property
    def floor(self) -> Numbers | None:
        """Of a lead that was taken from another broadcaster: its playlists have used lower numbers alone."""
        return self._election.floor

    @property
    def left(self) -> datetime | None:
        """When that broadcaster has led last, by its clock."""
        return self._election.left

    @property
    def must_hand_over(self) -> bool:
        """Whether a standby asks for the lead."""
        return self._election.must_hand_over

    def want(self) -> None:
        """Ask the broadcaster that leads for the lead."""
        self._election.wants = True

    async def give_up(self) -> None:
        """Give the lead to whoever waits for it, for good; raises StorageError."""
        self._election.gives_up = True
        await self.renew()

    @property
    def takeovers(self) -> int:
        """How often it has taken the lease from another broadcaster."""
        return self._election.takeovers

    @property
    def age(self) -> float:
        """Seconds since the bucket has confirmed the lease; NaN before it has."""
        age = self._steady() - self._election.confirmed
        return math.nan if math.isinf(age) else age

    @property
    def warning(self) -> Problem | None:
        """The warning for the operator while another broadcaster leads, else None."""
        if not self._election.is_second:
            return None
        return Problem(
            f"another broadcaster writes under {self._prefix}/ in this bucket and leads: this one writes no"
            " playlists there and deletes nothing",
            "stop one of them, or give it a prefix of its own (R2_PREFIX)",
        )

    def metrics(self) -> Iterator[Metric]:
        """Whether it leads, since when that is confirmed, and how often it took over."""
        yield Metric("leader", "1 while this broadcaster leads under its prefix", self.epoch is not None)
        text = "Times that this broadcaster has taken the lead from another one"
        yield Metric("takeovers", text, self.takeovers, is_counter=True)
        yield Metric(
            "lease_age_seconds", "Time since the bucket has confirmed the lead, NaN before", self.age
        )

    async def run(self) -> None:
        """Take and renew the lease until cancelled."""
        while True:
            try:
                await self.renew()
            except StorageError as error:
                logger.debug("the lease is not renewed: %s", error)
            await wait_at_most(min(TICK, self.ttl() / LOOKS), self._soon)
            self._soon.clear()

    def renew_soon(self) -> None:
        """Have ``run`` do at once what is due: the TTL may be another now."""
        self._soon.set()

    async def renew(self) -> None:
        """Do what is due; raises StorageError."""
        try:
            async with self._lock:
                for _ in range(STEPS):
                    step = self._election.next(self._steady(), self.ttl(), self._clock(), self.numbers())
                    if step is None:
                        break
                    await (self._look() if step is Step.LOOK else self._write())
        finally:
            self._tried.set()
            self._tell()
            self.changed.notify()

    async def ask(self, *, surely: bool = False) -> int:
        """The epoch, for a write that follows at once. With ``surely``, the bucket is asked in any case.

        Raises NotLeading, or StorageError if the bucket does not answer.
        """
        await self._tried.wait()
        if surely:
            self._election.doubt()
        if surely or not self.leads:
            await self.renew()
        if self.epoch is None or not self.leads:
            raise NotLeading(f"another broadcaster leads under {self._prefix}/")
        return self.epoch

    def outbid(self, epoch: int) -> None:
        """Take a higher epoch than this one, which was used without the lease."""
        self._election.outbid(epoch)

    async def _look(self) -> None:
        sent, found = self._steady(), self._election.found
        etag = await self._store.etag(self._key, deadline=DEADLINE)
        if etag and etag != self._election.etag:
            # A version that comes between the two requests makes the next write fail.
            try:
                found = LeaseRecord.parse(await self._store.get(self._key, deadline=DEADLINE))
            except ValueError:
                found = FOREIGN
            except ObjectNotFound:
                etag = None
        self._election.note_version(sent, self._steady(), etag, found if etag else None)

    async def _write(self) -> None:
        election = self._election
        sent, body = self._steady(), election.record.render()
        stored = await self._store.replace(
            self._key, body, etag=election.etag, max_age=1, deadline=DEADLINE, is_fenced=False
        )
        election.note_write(sent, stored)

    def _tell(self) -> None:
        """Log that another one leads, or does no more."""
        if bool(self.warning) is not self._has_told:
            self._has_told = not self._has_told
            if self.warning and not self.is_standby:
                logger.error("%s", self.warning)
            elif self.warning:
                logger.info("another broadcaster leads under %s/: this one stands by", self._prefix)
            else:
                logger.warning("no other broadcaster leads under %s/ any more: this one does", self._prefix)
