"""Puts the parts together: one TaskGroup owns every task, so that no part can die unnoticed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.channel import Channel, State
from broadcaster.config import LONGEST_SIGNATURE, Settings
from broadcaster.errors import ConfigError, StorageError
from broadcaster.events import Event, Observer
from broadcaster.journal import Journal, Recalled
from broadcaster.metrics import Metrics, process_registry
from broadcaster.mirror import Mirror
from broadcaster.notify import keep_watchdog_quiet, notify
from broadcaster.pipeline import Pipeline, Uploader, map_key_of
from broadcaster.retention import Sweeper
from broadcaster.source import Source
from broadcaster.spool import Spool
from broadcaster.storage import Bucket, ObjectStore, open_store
from broadcaster.tracker import Limits, Tracker
from broadcaster.web import (
    Bulletin,
    Dashboard,
    HealthReport,
    History,
    PublicOptions,
    Signaling,
    listening,
    make_operator_app,
    make_public_app,
    raise_file_limit,
)

logger = logging.getLogger(__name__)

PROBE_DEADLINE = 10.0  # seconds
STUCK = 5.0  # seconds without a sign of life of ingest; it looks several times a second


async def serve(
    settings: Settings,
    stop: asyncio.Event | None = None,
    *,
    on_ready: Callable[[str, str], None] = lambda *_: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Run the service until ``stop``; then finish the uploads, within the time that is set for it.

    ``on_ready`` is told the public and the operator's address once they are served, ``on_event`` whatever
    happens. Raises ConfigError when an address cannot be had or the state folder cannot be written,
    JournalError for its journal.
    """
    registry = process_registry()
    metrics = Metrics(registry)
    bulletin = Bulletin(settings.max_waiters)

    history = History(registry, _now)
    observers: list[Observer] = [metrics, bulletin, history, on_event]

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    with _journal(settings) as journal:
        async with open_store(_bucket(settings)) as store:
            parts = _Parts(settings, journal, store, observe)
            parts.watch(metrics)
            dashboard = Dashboard(
                settings.dashboard_dir, settings.viewer_dir / "vendor", history, settings.egress_price
            )
            public = parts.public_app(bulletin, registry, dashboard if settings.public_dashboard else None)
            operator = make_operator_app(parts.channel, parts.health, registry, dashboard)
            async with (
                listening(
                    operator,
                    settings.admin_host,
                    settings.admin_port,
                    "BROADCASTER_ADMIN_HOST, BROADCASTER_ADMIN_PORT",
                ) as admin_address,
                listening(
                    public, settings.host, settings.port, "BROADCASTER_HOST, BROADCASTER_PORT"
                ) as address,
                asyncio.TaskGroup() as group,
            ):
                helpers = [
                    group.create_task(_probe(store, settings.prefix), name="probe"),
                    group.create_task(parts.sweeper.run(), name="sweeper"),
                    group.create_task(keep_watchdog_quiet(parts.is_alive), name="watchdog"),
                    group.create_task(history.run(), name="history"),
                ]
                if parts.mirror:
                    observers.append(parts.mirror)
                    helpers.append(group.create_task(parts.mirror.run(), name="mirror"))
                logger.info("following %s, serving %s", settings.hls_dir, address)
                logger.info("dashboard at %s/dashboard, metrics at %s/metrics", admin_address, admin_address)
                notify("READY=1")
                on_ready(address, admin_address)
                await parts.pipeline.run(
                    parts.source,
                    stop or asyncio.Event(),
                    settings.drain,
                    on_stop=lambda: notify("STOPPING=1"),
                )
                if parts.mirror:
                    await parts.mirror.flush()
                for helper in helpers:
                    helper.cancel()


class _Parts:
    """Everything that works on the stream, as it stood when the last process ended."""

    def __init__(self, settings: Settings, journal: Journal, store: ObjectStore, observe: Observer) -> None:
        recalled = journal.recall()
        self._settings = settings
        self._journal = journal
        self._store = store
        self._spool = _spool(settings)
        self._signaling: Signaling | None = None
        self.channel = Channel(
            settings.window_segments,
            _now,
            observe,
            settings.target_duration,
            window=settings.window,
            ledger=journal,
            memory=recalled.channel,
        )
        self.pipeline = Pipeline(
            Uploader(store, observe, _now),
            self._spool,
            journal,
            self.channel,
            observe,
            prefix=settings.prefix,
            end_grace=settings.end_grace,
        )
        self._resume(recalled)
        self.source = Source(settings.hls_dir, _now, recalled.source)
        self.sweeper = Sweeper(store, journal, _now, prefix=settings.prefix, retention=settings.retention)
        self.mirror = Mirror(store, self.channel, settings.prefix) if settings.mirror else None

    def _resume(self, recalled: Recalled) -> None:
        pending = [(one.segment, one.key) for one in recalled.pending]
        maps = {map_key for segment, key in pending if (map_key := map_key_of(segment, key))}
        with _state_folder(self._settings):
            self._spool.resume([*maps, *(key for _, key in pending)])
        self.pipeline.resume(pending)

    def public_app(
        self, bulletin: Bulletin, registry: CollectorRegistry, dashboard: Dashboard | None
    ) -> web.Application:
        settings = self._settings
        page = {
            "eventsUrl": "/live/events",
            "beaconUrl": "/live/beacon",
            "mode": settings.viewer_mode,
            "trackerUrl": "/live/tracker" if settings.has_own_tracker else settings.tracker_url,
        }
        connections = raise_file_limit(settings.max_connections)
        if connections < settings.max_connections:
            logger.warning("the limit of open files leaves room for %d connections", connections)
        if settings.has_own_tracker:  # its sockets leave half of the places to everybody else
            self._signaling = Signaling(self.channel, Tracker(Limits(connections=max(1, connections // 2))))
        options = PublicOptions(
            settings.viewer_dir,
            page,
            settings.max_waiters,
            connections,
            self._signaling,
            dashboard,
        )
        return make_public_app(self.channel, self.health, bulletin, registry, options)

    def watch(self, metrics: Metrics) -> None:
        """Gauges that are read when they are scraped."""
        metrics.watch("live", "1 while a stream is live", lambda: self.channel.state is State.LIVE)
        metrics.watch("failing", "1 while /health says 503", lambda: self.health().reason is not None)
        metrics.watch(
            "backlog_segments", "Segments finished and not yet listed", lambda: self.pipeline.backlog
        )
        metrics.watch("spool_bytes", "Bytes that wait in the spool", lambda: self._spool.size)
        metrics.watch("spool_limit_bytes", "Bytes that may wait in the spool", lambda: self._spool.limit)
        metrics.watch("spool_free_bytes", "Bytes free on the disk of the spool", lambda: self._spool.free)
        metrics.watch("stored_bytes", "Bytes of segments in the bucket", lambda: self._journal.stored_bytes)
        metrics.count(
            "bucket_operations",
            "Requests to the bucket by price class: a, b or free",
            "class",
            lambda: self._store.operations,
        )
        metrics.watch("deleted_objects", "Objects deleted since the start", lambda: self.sweeper.deleted)
        metrics.watch(
            "journal_failing",
            "1 while the journal cannot be written",
            lambda: self._journal.fault is not None,
        )
        if mirror := self.mirror:
            metrics.count(
                "mirror_writes",
                "Attempts to put a playlist into the bucket by outcome: done or failed",
                "outcome",
                lambda: {"done": mirror.writes, "failed": mirror.failures},
            )
            metrics.watch("mirror_behind", "Playlists not up to date in the bucket", lambda: mirror.behind)

    def is_alive(self) -> bool:
        """Whether ingest gives signs of life; systemd's watchdog ends a process that does not."""
        if self.pipeline.draining:
            return True
        return time.monotonic() - min(self.source.last_look, self.pipeline.last_tick) < STUCK

    def health(self) -> HealthReport:
        """How the service is now."""
        reason = self.pipeline.trouble if self.is_alive() else "ingest is stuck"
        warning = self._journal.fault and f"the journal cannot be written: {self._journal.fault}"
        if not warning and self.mirror and self.mirror.fault:
            warning = f"playlists cannot be written into the bucket: {self.mirror.fault}"
        report = HealthReport(self.channel.state, self.pipeline.backlog, reason, warning)
        tracker = self._signaling
        if tracker is None:
            return report
        return replace(report, peers=tracker.peers, torrents=tracker.torrents, signaling=True)


def _now() -> datetime:
    return datetime.now(UTC)


def _bucket(settings: Settings) -> Bucket:
    return Bucket(
        endpoint_url=settings.s3_endpoint,
        name=settings.bucket,
        access_key_id=settings.access_key_id.get_secret_value(),
        secret_access_key=settings.secret_access_key.get_secret_value(),
        public_url=settings.public_url,
        signed_for=LONGEST_SIGNATURE if settings.urls == "presigned" else None,
    )


@contextmanager
def _journal(settings: Settings) -> Iterator[Journal]:
    with _state_folder(settings):
        journal = Journal(settings.state_dir, _now)
    try:
        yield journal
    finally:
        journal.close()


def _spool(settings: Settings) -> Spool:
    with _state_folder(settings):
        return Spool(settings.state_dir / "spool", settings.spool_limit)


@contextmanager
def _state_folder(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None


async def _probe(store: ObjectStore, prefix: str) -> None:
    """Say at once what is wrong with the bucket. It is no reason to stop: it may be mended meanwhile."""
    try:
        await store.check(prefix, deadline=PROBE_DEADLINE)
    except StorageError as error:
        logger.error("the bucket cannot be used now, uploads will be tried again: %s", error)
