"""Runs the parts together: one TaskGroup owns every task, so that no part can die unnoticed."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.config import Settings
from broadcaster.errors import StorageError
from broadcaster.events import Event, Observer
from broadcaster.figures import Figures
from broadcaster.metrics import Metrics, process_registry
from broadcaster.notify import keep_watchdog_quiet, notify
from broadcaster.service.components import Components, bucket_of, now, open_catalog
from broadcaster.service.figures import figures_of
from broadcaster.storage import ObjectStore, open_store
from broadcaster.tracker import Limits, Tracker
from broadcaster.web import (
    Dashboard,
    EventStream,
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
    metrics, event_stream = Metrics(registry), EventStream(settings.max_waiters)
    history = History(registry, now)
    observers: list[Observer] = [metrics, event_stream, history, on_event]

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    with open_catalog(settings) as catalog:
        async with open_store(bucket_of(settings)) as store:
            components = Components(settings, catalog, store, observe)
            observers.append(components.losses)
            registry.register(Figures(partial(figures_of, components)))
            if components.mirror:
                observers.append(components.mirror)
            async with (
                catalog,
                _listeners(settings, components, event_stream, history, registry) as addresses,
                asyncio.TaskGroup() as group,
            ):
                helpers = _start_helpers(group, components, history, settings.prefix)
                # What is there now stays, 100,000 objects of the S3 client above all: to look through them
                # again and again would hold everything up for 50 ms each time.
                gc.collect()
                gc.freeze()
                logger.info("following %s, serving %s", settings.hls_dir, addresses[0])
                logger.info("dashboard at %s/dashboard, metrics at %s/metrics", addresses[1], addresses[1])
                notify("READY=1")
                on_ready(*addresses)
                await components.pipeline.run(
                    components.source.run,
                    stop or asyncio.Event(),
                    settings.drain,
                    on_stop=lambda: notify("STOPPING=1"),
                )
                if components.mirror:
                    await components.mirror.flush()
                for helper in helpers:
                    helper.cancel()


def _start_helpers(
    group: asyncio.TaskGroup, components: Components, history: History, prefix: str
) -> list[asyncio.Task[None]]:
    work = {
        "probe": _probe(components.store, prefix),
        "sweeper": components.sweeper.run(),
        "owner": components.owner.run(),
        "watchdog": keep_watchdog_quiet(components.is_alive),
        "history": history.run(),
    }
    if components.mirror:
        work["mirror"] = components.mirror.run()
    if components.owncast:
        work["owncast"] = components.owncast.run()
    return [group.create_task(one, name=name) for name, one in work.items()]


@asynccontextmanager
async def _listeners(
    settings: Settings,
    components: Components,
    event_stream: EventStream,
    history: History,
    registry: CollectorRegistry,
) -> AsyncIterator[tuple[str, str]]:
    """Serve while inside; yields the public and the operator's address."""
    dashboard = Dashboard(
        settings.dashboard_dir, settings.viewer_dir / "vendor", history, settings.egress_price
    )
    ask_owncast = components.owncast.ask if components.owncast else None
    operator = make_operator_app(components.channel, components.health, registry, dashboard, ask_owncast)
    options = _public_options(settings, components, dashboard)
    public = make_public_app(components.channel, components.health, event_stream, registry, options)
    async with (
        _listening(operator, settings.admin_host, settings.admin_port, "ADMIN_") as admin_address,
        _listening(public, settings.host, settings.port) as address,
    ):
        yield address, admin_address


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, kind: str = "") -> AsyncIterator[str]:
    names = f"BROADCASTER_{kind}HOST, BROADCASTER_{kind}PORT"
    async with listening(app, host, port, names) as address:
        yield address


def _public_options(settings: Settings, components: Components, dashboard: Dashboard) -> PublicOptions:
    connections = raise_file_limit(settings.max_connections)
    if connections < settings.max_connections:
        logger.warning("the limit of open files leaves room for %d connections", connections)
    if settings.has_own_tracker:  # its sockets leave half of the places to everybody else
        components.signaling = Signaling(
            components.channel, Tracker(Limits(connections=max(1, connections // 2)))
        )
    return PublicOptions(
        settings.viewer_dir,
        page={
            "eventsUrl": "/live/events",
            "beaconUrl": "/live/beacon",
            "mode": settings.viewer_mode,
            "trackerUrl": "/live/tracker" if settings.has_own_tracker else settings.tracker_url,
        },
        max_waiters=settings.max_waiters,
        max_connections=connections,
        signaling=components.signaling,
        dashboard=dashboard if settings.public_dashboard else None,
    )


async def _probe(store: ObjectStore, prefix: str) -> None:
    """Say at once what is wrong with the bucket. It is no reason to stop: it may be mended meanwhile."""
    try:
        await store.check(prefix, deadline=PROBE_DEADLINE)
    except StorageError as error:
        logger.error("the bucket cannot be used now, uploads will be tried again: %s", error)
