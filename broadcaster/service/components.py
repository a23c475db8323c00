"""The parts that work on the stream, made from the settings and from what the journal remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broadcaster.catalog import Catalog, Recalled
from broadcaster.config import LONGEST_SIGNATURE, Settings
from broadcaster.delivery import Pipeline, Uploader, map_key_of
from broadcaster.delivery.mirror import Mirror
from broadcaster.delivery.spool import Spool
from broadcaster.delivery.sweeper import Sweeper
from broadcaster.errors import ConfigError
from broadcaster.events import Observer
from broadcaster.ingest import Source
from broadcaster.live import Channel
from broadcaster.owncast import OwncastStatus
from broadcaster.service.losses import Losses
from broadcaster.storage import Bucket, ObjectStore
from broadcaster.web import HealthReport, Signaling

STUCK = 5.0  # seconds without a sign of life of ingest; it looks several times a second


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


def steady(
    wall: Callable[[], datetime] = now, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], datetime]:
    """A clock that begins with the wall time and then does not jump, whatever becomes of that."""
    begin, since = wall(), monotonic()
    return lambda: begin + timedelta(seconds=monotonic() - since)


class Components:
    """Everything that works on the stream, as it stood when the last process ended.

    Raises ConfigError when the state folder cannot be written, JournalError for its journal.
    """

    def __init__(self, settings: Settings, catalog: Catalog, store: ObjectStore, observe: Observer) -> None:
        recalled = catalog.recall()
        self._settings = settings
        self.catalog = catalog
        self.store = store
        self.spool = _spool(settings)
        self.losses = Losses()
        self.signaling: Signaling | None = None
        self.channel = Channel(
            settings.window_segments,
            now,
            observe,
            settings.target_duration,
            window=settings.window,
            catalog=catalog,
            memory=recalled.channel,
        )
        self.owncast = OwncastStatus(settings.owncast_url) if settings.owncast_url else None
        self.pipeline = Pipeline(
            Uploader(store, observe, now),
            self.spool,
            catalog,
            self.channel,
            observe,
            prefix=settings.prefix,
            end_grace=settings.end_grace,
            encoder=self.owncast,
            disconnect_grace=settings.disconnect_grace,
        )
        self._resume(recalled)
        self.source = Source(settings.hls_dir, now, recalled.source)
        self.sweeper = Sweeper(store, catalog, prefix=settings.prefix, kept=settings.retention is None)
        self.mirror = Mirror(store, self.channel, settings.prefix) if settings.mirror else None

    def _resume(self, recalled: Recalled) -> None:
        pending = [(one.segment, one.key) for one in recalled.pending]
        maps = {map_key for segment, key in pending if (map_key := map_key_of(segment, key))}
        with _state_folder(self._settings):
            self.spool.resume([*maps, *(key for _, key in pending)])
        self.pipeline.resume(pending)

    def is_alive(self) -> bool:
        """Whether ingest gives signs of life; systemd's watchdog ends a process that does not."""
        if self.pipeline.draining:
            return True
        return time.monotonic() - min(self.source.last_look, self.pipeline.last_tick) < STUCK

    def health(self) -> HealthReport:
        """How the service is now."""
        reason = (self.pipeline.trouble or self.losses.trouble) if self.is_alive() else "ingest is stuck"
        warning = self.catalog.fault and f"the journal cannot be written: {self.catalog.fault}"
        if not warning and self.mirror and self.mirror.fault:
            warning = f"playlists cannot be written into the bucket: {self.mirror.fault}"
        report = HealthReport(self.channel.state, self.pipeline.backlog, reason, warning)
        tracker = self.signaling
        if tracker is None:
            return report
        return replace(report, peers=tracker.peers, torrents=tracker.torrents, signaling=True)


def bucket_of(settings: Settings, signed_for: timedelta = LONGEST_SIGNATURE) -> Bucket:
    """The bucket that the settings name; where they ask for signed URLs, those are valid for so long."""
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
    """The journal in the state folder; raises ConfigError or JournalError when it cannot be used."""
    with _state_folder(settings):
        catalog = Catalog(settings.state_dir, steady(), settings.retention)
    try:
        yield catalog
    finally:
        catalog.close()


def _spool(settings: Settings) -> Spool:
    with _state_folder(settings):
        return Spool(settings.state_dir / "spool", settings.spool_limit)


@contextmanager
def _state_folder(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None
