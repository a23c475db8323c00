"""Puts the parts together: one TaskGroup owns every task, so that no part can die unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web

from broadcaster.channel import Channel
from broadcaster.config import Settings
from broadcaster.errors import ConfigError, StorageError
from broadcaster.events import Event
from broadcaster.metrics import Metrics, process_registry
from broadcaster.pipeline import Pipeline, Uploader
from broadcaster.source import Source
from broadcaster.spool import Spool
from broadcaster.storage import Bucket, ObjectStore, open_store
from broadcaster.web import HealthReport, make_app, make_runner

logger = logging.getLogger(__name__)

PROBE_DEADLINE = 10.0  # seconds


async def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Run the service until cancelled.

    ``on_ready`` is told the address once it is served, ``on_event`` whatever happens. Raises ConfigError
    when the address cannot be had or the state folder cannot be written.
    """
    registry = process_registry()
    metrics = Metrics(registry)

    def observe(event: Event) -> None:
        metrics(event)
        on_event(event)

    channel = Channel(settings.window_segments, _now, observe, settings.target_duration)
    async with open_store(_bucket(settings)) as store:
        uploader = Uploader(store, observe, _now)
        pipeline = Pipeline(
            uploader,
            _spool(settings),
            channel,
            observe,
            prefix=settings.prefix,
            end_grace=settings.end_grace,
        )
        metrics.watch("backlog_segments", "Segments finished and not yet listed", lambda: pipeline.backlog)

        def health() -> HealthReport:
            return HealthReport(channel.state, pipeline.backlog, pipeline.trouble)

        app = make_app(channel, health, registry, settings.viewer_dir)
        async with _listening(make_runner(app), settings) as address, asyncio.TaskGroup() as group:
            group.create_task(_probe(store, settings.prefix), name="probe")
            group.create_task(pipeline.run(Source(settings.hls_dir, _now)), name="pipeline")
            logger.info("following %s, serving %s", settings.hls_dir, address)
            on_ready(address)


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


def _spool(settings: Settings) -> Spool:
    try:
        return Spool(settings.state_dir / "spool")
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None


async def _probe(store: ObjectStore, prefix: str) -> None:
    """Say at once what is wrong with the bucket. It is no reason to stop: it may be mended meanwhile."""
    try:
        await store.check(prefix, deadline=PROBE_DEADLINE)
    except StorageError as error:
        logger.error("the bucket cannot be used now, uploads will be tried again: %s", error)


@asynccontextmanager
async def _listening(runner: web.AppRunner, settings: Settings) -> AsyncIterator[str]:
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            where = f"BROADCASTER_HOST, BROADCASTER_PORT: {settings.host}:{settings.port}"
            raise ConfigError(f"{where} cannot be had: {error.strerror}") from None
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
