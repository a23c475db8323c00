"""Standing by: a second broadcaster of a stream waits until it leads, and hands the lead over when asked.

A standby serves no viewers: a load balancer in front finds its port closed. When it leads, its playlists
begin after the numbers in the lease, and recordings and clips are those in the bucket. A broadcaster that has
lost the lead ends; its next process stands by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from broadcaster.admin import Lead, make_operator_app, own_token
from broadcaster.aio import Retrying, wait_at_most
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.lease import PrefixLease
from broadcaster.catalog import Catalog
from broadcaster.config import Settings
from broadcaster.errors import CatalogError, LeadLost, NotPossible, StorageError
from broadcaster.http import listening
from broadcaster.ipc.messages import HealthReport, State
from broadcaster.logs import feed_watchdog, notify
from broadcaster.metrics import MetricsCollector
from broadcaster.recordings.rebuild import catch_up, go_on
from broadcaster.service.components import state_folder
from broadcaster.service.supervisor import Part

logger = logging.getLogger(__name__)

LOOK = 0.1  # seconds
READ_EVERY, TRY_EVERY = 300.0, 2.0  # seconds
READ_WITHIN = 5.0  # seconds, for which the stream waits
AT_LEAST = 60.0  # seconds, in which a stream goes on after a takeover


async def stand_by(  # noqa: PLR0913 - what it has of the service
    settings: Settings,
    catalog: Catalog,
    store: ObjectStore,
    lease: PrefixLease,
    *,
    registry: CollectorRegistry,
    stop: asyncio.Event,
) -> bool:
    """Wait until this broadcaster leads, or ``stop`` is set; returns whether it leads.

    Meanwhile the admin listener has ``/health``, ``/metrics`` and ``/api/lead``. Raises ConfigError if it
    cannot be bound, CatalogError.
    """
    report = HealthReport(State.OFFLINE, 0, None, "stands by: another broadcaster leads")
    names = settings.admin_names.replace(",", " ").split()
    app = make_operator_app(lambda: report, registry, names=names, lead=want_lead(settings, lease))
    metrics = MetricsCollector(lease.metrics)
    registry.register(metrics)
    where = "BROADCASTER_ADMIN_HOST, BROADCASTER_ADMIN_PORT"
    leads = False  # a lead that is in doubt once the listener has closed is renewed by the service
    try:
        async with listening(app, settings.admin_host, settings.admin_port, where):
            notify("READY=1")
            tasks = [asyncio.create_task(lease.run()), asyncio.create_task(feed_watchdog(lambda: True))]
            try:
                reading = asyncio.create_task(_read_recordings(store, catalog, settings.prefix, lease))
                try:
                    while not (leads := lease.leads) and not stop.is_set():
                        await wait_at_most(LOOK, stop)
                finally:
                    await _cancel(reading)
                if leads and lease.floor:
                    logger.warning("another broadcaster has led: playlists begin after its numbers")
                    catalog.begin_after(lease.floor)
                    await _go_on(store, catalog, settings, lease.left or catalog.now())
            finally:
                await _cancel(*tasks)
    finally:
        registry.unregister(metrics)
    return leads


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _read_recordings(store: ObjectStore, catalog: Catalog, prefix: str, lease: PrefixLease) -> None:
    """Read what the leader has written of recordings and clips, so that little is left to be read later."""
    while True:
        changed = lease.changed.next()
        if lease.warning:
            try:
                async with catalog.writer:
                    await catch_up(store, catalog, prefix)
            except (StorageError, CatalogError) as error:
                logger.debug("recordings are not read: %s", error)
            await asyncio.sleep(READ_EVERY)
        else:
            await changed.wait()


async def _go_on(store: ObjectStore, catalog: Catalog, settings: Settings, left: datetime) -> None:
    """Go on with the recording of the stream that was on; if the bucket is slow, it ends instead."""
    until = left + timedelta(seconds=max(settings.end_grace, AT_LEAST))
    try:
        async with asyncio.timeout(READ_WITHIN), catalog.writer:
            await go_on(store, catalog, settings.prefix, until)
    except (StorageError, CatalogError, TimeoutError) as error:
        logger.warning("the recording of the stream ends, and another one begins: %r", error)


def late_parts(
    store: ObjectStore, catalog: Catalog, prefix: str, parts: Mapping[str, Part]
) -> dict[str, Part]:
    """After a takeover: the part that reads recordings and clips, and those of ``parts`` that wait for it."""
    if not catalog.is_behind:
        return {}
    known = asyncio.Event()

    async def read() -> None:
        retrying = Retrying("reading recordings of another broadcaster")
        while catalog.is_behind:
            try:
                await catch_up(store, catalog, prefix)
            except StorageError as error:
                retrying.failed(error)
                await retrying.pause(TRY_EVERY)
            else:
                retrying.worked()
                await catalog.caught_up()
        known.set()

    async def wait(run: Part) -> None:
        await known.wait()
        await run()

    late = {name: partial(wait, parts[name]) for name in ("sweeper", "files", "recorder", "viewers' clips")}
    return {**late, "takeover": read}


def want_lead(settings: Settings, lease: PrefixLease | None) -> Lead:
    """The operator's request for the lead, of a broadcaster that stands by, or of one without a ``lease``."""

    def want() -> None:
        if lease is None:
            raise NotPossible("this broadcaster serves viewers: ask the one that stands by")
        lease.want()

    with state_folder(settings):
        return Lead(own_token(settings.state_dir), want)


async def watch_lead(lease: PrefixLease, stop: asyncio.Event) -> None:
    """Set ``stop`` when a standby asks for the lead. Raises LeadLost once another broadcaster leads."""
    while not lease.must_hand_over:
        changed = lease.changed.next()
        if lease.warning:
            raise LeadLost("another broadcaster leads: this one ends, and stands by when it is started again")
        await changed.wait()
    logger.warning("a standby asks for the lead")
    stop.set()


async def hand_over(lease: PrefixLease, watch: asyncio.Task[None]) -> None:
    """Give the lead up if ``watch``, of ``watch_lead``, says that a standby waits; then raises LeadLost."""
    watch.cancel()
    if not lease.must_hand_over:
        return
    with contextlib.suppress(StorageError):  # then the standby waits until the lease is over
        await lease.give_up()
    raise LeadLost("the lead was given to a standby: this one ends, and stands by when it is started again")
