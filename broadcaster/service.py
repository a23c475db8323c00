"""Puts the parts together: one TaskGroup owns every task, so that no part can die unnoticed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.channel import Channel, State
from broadcaster.config import Settings
from broadcaster.errors import ConfigError, StorageError
from broadcaster.events import Event, Observer
from broadcaster.journal import Journal, Recalled
from broadcaster.metrics import Metrics, process_registry
from broadcaster.notify import keep_watchdog_quiet, notify
from broadcaster.pipeline import Pipeline, Uploader, map_key_of
from broadcaster.retention import Sweeper
from broadcaster.source import Source
from broadcaster.spool import Spool
from broadcaster.storage import Bucket, ObjectStore, open_store
from broadcaster.web import (
    Bulletin,
    HealthReport,
    PublicOptions,
    make_operator_app,
    make_public_app,
    make_runner,
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

    def observe(event: Event) -> None:
        metrics(event)
        bulletin(event)
        on_event(event)

    with _journal(settings) as journal:
        async with open_store(_bucket(settings)) as store:
            parts = _Parts(settings, journal, store, observe)
            parts.watch(metrics)
            public = parts.public_app(bulletin, registry)
            operator = make_operator_app(parts.channel, parts.health, registry)
            async with (
                _listening(operator, settings.admin_host, settings.admin_port, "ADMIN_") as admin_address,
                _listening(public, settings.host, settings.port) as address,
                asyncio.TaskGroup() as group,
            ):
                helpers = [
                    group.create_task(_probe(store, settings.prefix), name="probe"),
                    group.create_task(parts.sweeper.run(), name="sweeper"),
                    group.create_task(keep_watchdog_quiet(parts.is_alive), name="watchdog"),
                ]
                logger.info("following %s, serving %s", settings.hls_dir, address)
                logger.info("metrics at %s/metrics", admin_address)
                notify("READY=1")
                on_ready(address, admin_address)
                await parts.pipeline.run(
                    parts.source,
                    stop or asyncio.Event(),
                    settings.drain,
                    on_stop=lambda: notify("STOPPING=1"),
                )
                for helper in helpers:
                    helper.cancel()


class _Parts:
    """Everything that works on the stream, as it stood when the last process ended."""

    def __init__(self, settings: Settings, journal: Journal, store: ObjectStore, observe: Observer) -> None:
        recalled = journal.recall()
        self._settings = settings
        self._journal = journal
        self._spool = _spool(settings)
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

    def _resume(self, recalled: Recalled) -> None:
        pending = [(one.segment, one.key) for one in recalled.pending]
        maps = {map_key for segment, key in pending if (map_key := map_key_of(segment, key))}
        with _state_folder(self._settings):
            self._spool.resume([*maps, *(key for _, key in pending)])
        self.pipeline.resume(pending)

    def public_app(self, bulletin: Bulletin, registry: CollectorRegistry) -> web.Application:
        settings = self._settings
        page = {"eventsUrl": "/live/events", "beaconUrl": "/live/beacon", "mode": settings.viewer_mode}
        options = PublicOptions(settings.viewer_dir, page, settings.max_waiters)
        return make_public_app(self.channel, self.health, bulletin, registry, options)

    def watch(self, metrics: Metrics) -> None:
        """Gauges that are read when they are scraped."""
        metrics.watch("live", "1 while a stream is live", lambda: self.channel.state is State.LIVE)
        metrics.watch(
            "backlog_segments", "Segments finished and not yet listed", lambda: self.pipeline.backlog
        )
        metrics.watch("spool_bytes", "Bytes that wait in the spool", lambda: self._spool.size)
        metrics.watch("spool_limit_bytes", "Bytes that may wait in the spool", lambda: self._spool.limit)
        metrics.watch("deleted_objects", "Objects deleted since the start", lambda: self.sweeper.deleted)
        metrics.watch(
            "journal_failing",
            "1 while the journal cannot be written",
            lambda: self._journal.fault is not None,
        )

    def is_alive(self) -> bool:
        """Whether ingest gives signs of life; systemd's watchdog ends a process that does not."""
        if self.pipeline.draining:
            return True
        return time.monotonic() - min(self.source.last_look, self.pipeline.last_tick) < STUCK

    def health(self) -> HealthReport:
        """How the service is now."""
        reason = self.pipeline.trouble if self.is_alive() else "ingest is stuck"
        warning = self._journal.fault and f"the journal cannot be written: {self._journal.fault}"
        return HealthReport(self.channel.state, self.pipeline.backlog, reason, warning)


def _now() -> datetime:
    return datetime.now(UTC)


def _bucket(settings: Settings) -> Bucket:
    return Bucket(
        endpoint_url=settings.s3_endpoint,
        name=settings.bucket,
        access_key_id=settings.access_key_id.get_secret_value(),
        secret_access_key=settings.secret_access_key.get_secret_value(),
        public_url=settings.public_url,
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


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, kind: str = "") -> AsyncIterator[str]:
    """Serve while inside; ``kind`` is part of the names of the settings."""
    runner = make_runner(app)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            where = f"BROADCASTER_{kind}HOST, BROADCASTER_{kind}PORT: {host}:{port}"
            raise ConfigError(f"{where} cannot be had: {error.strerror}") from None
        name, number = runner.addresses[0][:2]
        yield f"http://{name}:{number}"
    finally:
        await runner.cleanup()
