"""Builds the parts of the service from the settings and the catalog, with the private state folder."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from yarl import URL

from broadcaster import __version__
from broadcaster.access.keeper import Doors, GateFile, Keeper
from broadcaster.aio import EventLoopLag
from broadcaster.bucket import Bucket, ObjectStore
from broadcaster.bucket.lease import IDLE_TTL, MACHINE, VERSION, PrefixLease, machine_id, own_name
from broadcaster.catalog import Catalog, CatalogSnapshot
from broadcaster.catalog.records import Recording, Visibility, new_secret, unguessable
from broadcaster.config import LONGEST_SIGNATURE, Settings
from broadcaster.edge import EdgePublisher
from broadcaster.errors import ConfigError, Problem
from broadcaster.events import Event, Observer, StreamEnded, StreamStarted
from broadcaster.guest import GuestCheck, configured_page
from broadcaster.ipc.messages import HealthReport, Pong, State, View
from broadcaster.logs import feed_watchdog, notify
from broadcaster.mediamtx import MediaMtxStatus
from broadcaster.own_files import OTHERS, OTHERS_WRITE, PRIVATE, NotOursError, mode_of_own
from broadcaster.owncast import OwncastStatus
from broadcaster.push import PushSource
from broadcaster.recordings.posters import Posters
from broadcaster.recordings.writer import Recorder
from broadcaster.service.health import (
    HealthInputs,
    address_finding,
    clock_finding,
    disk_finding,
    doors_finding,
    encoder_finding,
    evaluate_health,
    passphrase_finding,
    public_finding,
    recording_finding,
)
from broadcaster.service.public_recordings import ShowsRecordings, ViewerClips, publisher
from broadcaster.service.supervisor import Supervisor
from broadcaster.service.viewer_process import ViewerProcess
from broadcaster.source import FolderSource, Source
from broadcaster.stream import EncoderWatch, Instant, StreamLimits, StreamMachine
from broadcaster.upload import Pipeline, Uploader
from broadcaster.upload.deleter import RetentionDeleter
from broadcaster.upload.mirror import Mirror
from broadcaster.upload.spool import Spool, recover_spool_orphans
from broadcaster.upload.uploader import WarmUploads


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


def jump_free_clock(
    wall: Callable[[], datetime] = now, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], datetime]:
    """A clock that begins with the wall time and does not follow later changes of it."""
    offset = wall() - timedelta(seconds=monotonic())
    return lambda: offset + timedelta(seconds=monotonic())


logger = logging.getLogger(__name__)

JOURNAL = "journal.db"


def make_private(folder: Path) -> None:
    """Make the folder, or close an existing folder to other users. Raises OSError.

    A folder that holds other things is left as it is. Raises NotOursError if the folder is another user's, or
    if it is left as it is and other users can write into it.
    """
    mode = mode_of_own(Path(os.path.realpath(folder)))
    if not mode & OTHERS:
        return
    if (folder / JOURNAL).exists() or not any(folder.iterdir()):
        folder.chmod(PRIVATE)
        logger.warning("%s was open to other users (mode %o); it is closed now", folder, mode)
        return
    if mode & OTHERS_WRITE:
        raise NotOursError(
            folder,
            f"other users can write into it (mode {mode:o}), and it holds other things: choose another",
        )
    logger.warning("%s stays open to other users (mode %o), because it holds other things", folder, mode)


@contextmanager
def state_folder(settings: Settings) -> Iterator[None]:
    """A context in which an OSError becomes a ConfigError that names BROADCASTER_STATE_DIR."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None


TAKEOVER = 60.0  # seconds in which a stream goes on after a takeover, at least
LISTED_WITHIN = 15.0  # seconds of these in which players wait for it
WRONG_CLOCK = timedelta(days=1)  # by which an encoder's clock may be behind this machine's
STUCK = 5.0  # seconds without a scan of the folder or a tick of the pipeline


class Components:
    """The parts of the service, in the state in which the last process ended.

    Raises ConfigError if the state folder cannot be written, CatalogError if the catalog cannot be read.
    """

    def __init__(  # noqa: PLR0913 - what outlives them
        self,
        settings: Settings,
        catalog: Catalog,
        store: ObjectStore,
        observe: Observer,
        supervisor: Supervisor,
        *,
        lease: PrefixLease,
        warm: WarmUploads,
    ) -> None:
        self.keeper: Keeper | None = None
        if settings.is_private:
            with state_folder(settings):
                self.keeper = Keeper(
                    settings.state_dir,
                    mode=settings.access,
                    doors=settings.doors,
                    peppers=peppers_of(settings),
                )
                self.keeper.on_open, self.keeper.on_close = self.open_doors, self.close_doors
        self.gate_file: GateFile | None = None
        if self.keeper and settings.gate_file:
            self.gate_file = GateFile(settings.gate_file, self.keeper.grants())
        names = self.keeper.names if self.keeper else b""
        memory = self._resume(settings, catalog, names, is_takeover=lease.floor is not None)
        self._settings = settings
        self._supervisor = supervisor
        self.catalog = catalog
        self.store = store
        self.lag = EventLoopLag()
        self.viewer_server: ViewerProcess | None = None
        self.edge: EdgePublisher | None = None
        self.access_fault: Callable[[], Problem | None] = lambda: None  # why a standby cannot let guests in
        self.push = self._push_source(settings, memory)
        self.source: Source = self.push or FolderSource(settings.hls_dir, now, memory.source)
        limits = StreamLimits(
            settings.window_segments,
            settings.window,
            settings.target_duration,
            dvr=timedelta(minutes=settings.retention_max_minutes * settings.has_dvr_playlist),
            dvr_size=settings.retention_max_size,
            end_grace=settings.end_grace,
            disconnect_grace=settings.disconnect_grace,
        )
        opened = self.keeper.doors.opened if self.keeper else None
        self._rehearsal: Doors | None = None  # one that has ended, and is to be hidden
        self._rehearsal_changed = asyncio.Event()
        self.stream = StreamMachine(
            limits,
            Instant(now(), time.monotonic()),
            memory.stream,
            memory.pending,
            datetime.fromtimestamp(opened, UTC) if opened else None,
        )
        self.owncast = OwncastStatus(settings.owncast_url) if settings.owncast_url else None
        self.mediamtx = MediaMtxStatus(settings.mediamtx_url) if settings.mediamtx_url else None
        self.encoder: EncoderWatch | None = self.owncast or self.mediamtx
        self.pipeline = Pipeline(
            self.stream,
            Uploader(store, observe, now, warm.take),
            self.spool,
            catalog,
            observe,
            clock=now,
            prefix=settings.prefix,
            names=names,
            show=supervisor.contained("audience", self._show, None),
            encoder=self.encoder,
            behind=lambda: self.viewer_server.pong.max_viewer_delay if self.viewer_server else 0.0,
            rewrites=self.push is None,
        )
        self.lease = lease
        # After a takeover in mid-stream it is live at once, before its own source has brought a segment.
        taken = lease.floor is not None and lease.others_ttl < IDLE_TTL
        self._returns_by = time.monotonic() + (TAKEOVER if taken else 0.0)
        lease.ttl = lambda: settings.lease if self._is_live else IDLE_TTL
        lease.numbers = lambda: self.stream.numbers
        self.deleter = RetentionDeleter(store, catalog, prefix=settings.prefix)
        self.mirror = Mirror(store, self._view, settings.prefix, wall=now) if settings.mirror else None
        self.recorder = Recorder(
            store,
            catalog,
            settings.prefix,
            title=self._title,
            show=publisher(settings, self._audiences),
            index=not settings.is_private,
        )
        self.guest_check = GuestCheck(
            partial(configured_page, settings),
            str(URL.build(scheme="http", host=settings.host, port=settings.port)),
            signed=settings.urls == "presigned",
            busy=lambda: self.pipeline.problem is not None,
        )
        self.viewer_clips = ViewerClips(catalog.clips, self.recorder.write_soon, hidden=self._is_rehearsing)
        self.posters = Posters(
            settings,
            store,
            catalog,
            self.spool,
            self.recorder,
            view=self._view,
            hidden=self._is_rehearsing,
            names=names,
        )

    def _resume(
        self, settings: Settings, catalog: Catalog, names: bytes, *, is_takeover: bool
    ) -> CatalogSnapshot:
        """Restore the spool; returns the state of the stream in the catalog.

        ``is_takeover``: another broadcaster has led meanwhile, and what waits in the spool is of before.
        """
        memory = catalog.load()
        keys = {key for segment in memory.pending for key in (segment.key, segment.map_key) if key}
        folder = settings.state_dir / "spool"
        with state_folder(settings):
            self.spool = Spool(folder, settings.spool_limit)
            unknown = set[str]()
            for key in self.spool.resume(keys):
                if is_takeover or catalog.knows(key):  # the last process ended before it released the file
                    self.spool.discard(folder / key)
                else:
                    unknown.add(key)
            found = list(recover_spool_orphans(unknown, folder, settings.prefix, memory.source))
        for segment in found:
            catalog.noticed(segment.keyed(settings.prefix, names))
        if unknown:
            text = "recovered %d spool files unknown to the catalog; %d could not be identified"
            logger.warning(text, len(found), len(unknown) - len(found))
        return catalog.load() if found else memory

    def _push_source(self, settings: Settings, memory: CatalogSnapshot) -> PushSource | None:
        """The source for an encoder that pushes, if the settings want it."""
        if settings.push_key is None:
            return None
        key, spool = settings.push_key.get_secret_value(), self.spool
        with state_folder(settings):
            return PushSource(settings.hls_dir, key, now, memory.source, lambda: spool.limit - spool.size)

    async def report_to_systemd(self) -> None:
        """Report READY once viewers are served, then feed the watchdog."""
        if self.viewer_server:
            await self.viewer_server.ready.wait()
        notify("READY=1")
        await feed_watchdog(self.is_alive)

    def is_alive(self) -> bool:
        """Whether ingest is not stuck; systemd's watchdog ends a stuck process.

        A hanging HLS folder does not count: it would hang in the next process as well.
        """
        now = time.monotonic()
        scanned = now if self.source.scanning else self.source.last_scan
        return self.pipeline.draining or now - min(scanned, self.pipeline.last_tick) < STUCK

    def health(self) -> HealthReport:
        """The health of the service."""
        if self.viewer_server is None:
            return self.health_of_ingest()
        pong = self.viewer_server.pong
        report = self._report(serving=self.viewer_server.is_answering)
        return replace(
            report,
            viewers=pong.viewers,
            viewers_error=pong.viewers_error,
            peers=pong.peers,
            torrents=pong.torrents,
        )

    def health_of_ingest(self) -> HealthReport:
        """The health of the service without that of the viewer server."""
        return self._report(serving=True)

    @property
    def source_ended(self) -> bool:
        """Whether the source says that its stream is over, by its playlists or by Owncast's status."""
        return self.stream.source.ended or self._encoder_gone

    @property
    def _encoder_gone(self) -> bool:
        return self.encoder is not None and self.encoder.disconnected_since is not None

    @property
    def is_working(self) -> bool:
        """Whether viewers have a stream, or will have one."""
        return self.pipeline.view.state in {State.STARTING, State.LIVE} or self.pipeline.backlog > 0

    @property
    def _is_live(self) -> bool:
        """Whether others wait for this leader only as long as in a stream."""
        return self.is_working or time.monotonic() < self._returns_by

    def leads_until(self) -> float | None:
        """The end of the time in which viewers may be shown the stream (``boot_time``); 0: not now.

        None without a standby. After a takeover in mid-stream nothing is shown before the first new
        playlists: 404 ends some players.
        """
        if not self._settings.standby:
            return None
        left = self._returns_by - time.monotonic()
        if left > TAKEOVER - LISTED_WITHIN and not self.pipeline.view.playlists:
            return 0.0
        return max(self.lease.leads_until, 0.0)

    def edge_epoch(self) -> int | None:
        """The epoch of pushes to the edge; None while nothing is pushed: the edge keeps what it shows."""
        return None if self.leads_until() == 0 else self.lease.epoch

    def _report(self, *, serving: bool) -> HealthReport:
        view, source, unread = self.pipeline.view, self.stream.source, self.guest_check.fault
        silence = source.silence(looked_at := self.source.scanned_at)
        pong = self.viewer_server.pong if self.viewer_server else Pong(())
        writes = None if self.lease.warning else (self.mirror and self.mirror.fault) or self.recorder.fault
        hangs = self.source.scanning and time.monotonic() - self.source.last_scan > STUCK
        found = evaluate_health(
            HealthInputs(
                view.state,
                view.target_duration,
                silence=silence,
                silences={name: source.silence(looked_at, name) for name in view.playlists},
                frozen=time.monotonic() - self.stream.gaps.since,
                ended=self.source_ended,
                paused=self._encoder_gone and self._settings.disconnect_grace is not None,
                alive=self.is_alive(),
                folder=not hangs,
                serving=serving,
                source=source.fault,
                refused=source.refused,
                delay=None if source.fault else self.pipeline.problem,
                gaps=self.stream.gaps.problem,
                waiting=self.pipeline.backlog,
                rate=self.pipeline.uplink.needed,
                spool=self.spool.size,
                spool_limit=self.spool.limit,
                free=self.spool.free,
                journal=self.catalog.writer.fault,
                playlist_writes=writes,
                owner=self.lease.warning,
                edge=self.edge.fault if self.edge else None,
                access=self.access_fault(),
                unconfirmed=self.keeper is not None and self.keeper.is_unconfirmed,
                failed=self._supervisor.warning,
                unreadable=unread,
                uncertain=self.guest_check.uncertain,
                playing_pages=pong.pages_with_picture,
                failing_pages=pong.pages_without_picture,
                undecodable_pages=pong.pages_undecodable,
            )
        )
        return HealthReport(
            view.state,
            self.pipeline.backlog,
            found.reason,
            found.warning,
            signaling=self._settings.has_own_tracker,
            published=self.pipeline.published,
            listed=self.pipeline.listed,
            variants=tuple(view.playlists),
            qualities=view.qualities,
            target_duration=view.target_duration,
            silence=silence,
            trouble=found.trouble,
            parts=found.parts,
            title=self.encoder.title if self.encoder else None,
            poster=self.posters.poster if view.playlists else None,
            faults=found.faults,
            frozen=found.frozen,
        )

    def checklist(self, report: HealthReport, page: str) -> list[dict[str, Any]]:
        """What has to be so before the event, as it is now; links begin with the address ``page``."""
        keeper, spool, settings = self.keeper, self.spool, self._settings
        is_live = self.pipeline.view.state is State.LIVE
        read = is_live and self.guest_check.was_read
        connected = self.encoder.connected if self.encoder else None
        room = (spool.free, spool.limit, spool.size, self.pipeline.uplink.needed)
        fault = None if self.lease.warning else self.recorder.fault
        findings = {
            ("encoder", "Encoder connected"): encoder_finding(report, connected),
            ("public", "First segment public"): public_finding(report, self.guest_check.fault, was_read=read),
            ("recording", "Recording on"): recording_finding(report, settings.recordings, fault),
            ("doors", "Doors closed"): doors_finding(
                is_private=keeper is not None,
                are_open=keeper is None or keeper.doors.open,
                is_live=is_live and not self.stream.is_rehearsal,
            ),
            ("disk", "Disk for 9 h"): disk_finding(*room, is_live=is_live),
            ("clock", "Clock right"): clock_finding(self.store.clock_skew),
            ("address", "Addresses public"): address_finding(
                page if keeper or settings.has_pages else None,
                str(settings.public_url) if settings.urls == "public" else None,
            ),
        }
        if keeper and keeper.mode == "passphrase":
            findings["passphrase", "Passphrase known"] = passphrase_finding(
                is_set=keeper.has_passphrase, is_unconfirmed=keeper.is_unconfirmed
            )
        return [
            {"name": name, "title": title, **asdict(finding)} for (name, title), finding in findings.items()
        ]

    async def open_doors(self, doors: Doors) -> None:
        """Hide what was before from guests; or show it again, if they may see it. Raises CatalogError."""
        if doors.opened is not None:
            await self.pipeline.open_doors(datetime.fromtimestamp(doors.opened, UTC))
            await self._hide_rehearsal(doors)
        elif self.keeper:
            for name in self.keeper.doors.hidden:
                await self.catalog.recordings.change(name, visibility=Visibility.LISTED)
            self.recorder.write_soon()
            await self.recorder.show()

    async def close_doors(self) -> tuple[str, ...]:
        """Hide recordings that go on, which guests know; returns the listed ones. Raises CatalogError."""
        on = [found for found in await self.catalog.recordings.all() if found.ended is None]
        await self._hide(on)
        return tuple(found.id for found in on if found.visibility is Visibility.LISTED)

    def note_rehearsal(self, event: Event) -> None:
        """Note the end of a stream that the opening of the doors cut off, and the begin of the next one."""
        if self.keeper and self.keeper.doors.opened is not None:
            if isinstance(event, StreamEnded):
                self._rehearsal = self.keeper.doors
            if self._rehearsal or (isinstance(event, StreamStarted) and not self.stream.is_rehearsal):
                self._rehearsal_changed.set()

    async def end_rehearsals(self) -> None:
        """Hide the recordings of such streams, until cancelled. Raises CatalogError, NotPossible."""
        while self.keeper:
            await self._rehearsal_changed.wait()
            self._rehearsal_changed.clear()
            rehearsal, self._rehearsal = self._rehearsal, None
            try:
                if rehearsal:
                    await self._hide_rehearsal(rehearsal, is_over=True)
                if self.stream.state is State.LIVE and not self.stream.is_rehearsal:
                    await self.keeper.end_rehearsal()
            except Exception:  # this part is started again
                self._rehearsal = rehearsal
                self._rehearsal_changed.set()
                raise

    async def _hide_rehearsal(self, doors: Doors, *, is_over: bool = False) -> None:
        """Hide the recordings of the time in which the doors were closed. Raises CatalogError."""
        closed, opened = (datetime.fromtimestamp(time or 0, UTC) for time in (doors.closed, doors.opened))

        async def is_of_it(recording: Recording) -> bool:
            if recording.ended is None:
                return not is_over
            if recording.ended > closed and (not is_over or recording.started < opened):
                return True
            is_recent = recording.ended > closed - WRONG_CLOCK
            return is_recent and await self.catalog.was_noticed(recording.id, closed, opened)

        await self._hide([found for found in await self.catalog.recordings.all() if await is_of_it(found)])

    async def _hide(self, recordings: Iterable[Recording]) -> None:
        for recording in recordings:
            if recording.visibility is not Visibility.HIDDEN:
                values = {"visibility": Visibility.HIDDEN, "secret": new_secret()}
                await self.catalog.recordings.change(recording.id, **values)
        self.recorder.write_soon()
        await self.recorder.show()

    def _is_rehearsing(self) -> bool:
        return self.keeper is not None and self.keeper.is_rehearsing

    def _title(self) -> str | None:
        return self.encoder.title if self.encoder else None

    def _view(self) -> View:
        return self.pipeline.view

    def _show(self, view: View) -> None:
        if self.viewer_server:
            self.viewer_server.show(view)
        if self.edge:
            self._supervisor.contained("edge", self.edge.show, None)(view)

    def _audiences(self) -> Iterator[ShowsRecordings]:
        """Who shows recordings to viewers; the edge cannot sign playlists."""
        if self.viewer_server:
            yield self.viewer_server
        if self.edge and self._settings.urls == "public":
            yield self.edge
        if self.gate_file:
            yield self.gate_file


def lease_secret(settings: Settings) -> bytes:
    """The secret of the lease's name in a private event: whoever writes into the bucket knows it."""
    return settings.secret_access_key.get_secret_value().encode() if settings.is_private else b""


def peppers_of(settings: Settings) -> list[bytes]:
    """The secrets under one of which the digest of the passphrase is, new ones under the first.

    With BROADCASTER_ACCESS_SECRET the digest is known to a standby, too, and the bucket's key may change; a
    digest of before it was set is under the bucket's key.
    """
    found = [settings.secret_access_key.get_secret_value().encode()]
    if settings.access_secret:
        secret = settings.access_secret.get_secret_value().encode()
        found.insert(0, hmac.digest(secret, b"broadcaster passphrase", "sha256"))
    return found


def access_key(settings: Settings, prefix: str) -> str:
    """The key of the sealed object that says to a standby who may watch a private event."""
    return unguessable(f"{prefix}/access.bin", lease_secret(settings))


def lease_of(settings: Settings, store: ObjectStore) -> PrefixLease:
    """The lease of the settings' prefix, which fences all that changes the bucket."""
    lease = store.fence = PrefixLease(
        store,
        settings.prefix,
        own_name(settings.state_dir),
        now,
        standby=bool(settings.standby),
        secret=lease_secret(settings),
        settings=shared_settings(settings),
    )
    return lease


def shared_settings(settings: Settings) -> dict[str, str]:
    """What a broadcaster and its standby should have in common, and which machine this is."""
    values = {
        VERSION: __version__,
        MACHINE: machine_id(),
        "R2_PUBLIC_URL": settings.public_url,
        "BROADCASTER_URLS": settings.urls,
        "BROADCASTER_ACCESS": settings.access,
        "BROADCASTER_STANDBY": bool(settings.standby),
        "BROADCASTER_MIRROR": settings.mirror,
        "BROADCASTER_EDGE_URL": settings.edge_url,
        "BROADCASTER_LEASE_SECONDS": f"{settings.lease:g}",
        "BROADCASTER_RECORDINGS": settings.recordings and settings.recordings.days,
    }
    if settings.access_secret:
        secret = settings.access_secret.get_secret_value().encode()
        values["BROADCASTER_ACCESS_SECRET"] = hmac.digest(secret, b"broadcaster check", "sha256").hex()[:12]
    return {name: str(value) for name, value in values.items()}


def bucket_of(settings: Settings, signed_for: timedelta = LONGEST_SIGNATURE) -> Bucket:
    """The bucket of the settings. Signed URLs, if the settings want these, are valid for ``signed_for``."""
    return Bucket(
        endpoint_url=settings.s3_endpoint,
        name=settings.bucket,
        access_key_id=settings.access_key_id.get_secret_value(),
        secret_access_key=settings.secret_access_key.get_secret_value(),
        public_url=settings.public_url,
        signed_for=signed_for if settings.urls == "presigned" else None,
    )


@contextmanager
def open_catalog(settings: Settings) -> Iterator[Catalog]:
    """The catalog in the state folder. Raises ConfigError or CatalogError."""
    with state_folder(settings):
        make_private(settings.state_dir)
        catalog = Catalog(
            settings.state_dir,
            jump_free_clock(),
            settings.retention,
            settings.recordings,
            now,
            long_ids=settings.is_private,
        )
    try:
        yield catalog
    finally:
        catalog.close()
