"""Standing by: a second broadcaster of a stream waits until it leads, and hands the lead over when asked.

A standby serves no viewers: a load balancer in front finds its port closed. When it leads, its playlists
begin after the numbers in the lease. A broadcaster that has lost the lead ends; its next process stands by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from prometheus_client import CollectorRegistry

from broadcaster.admin import Lead, make_operator_app, own_token
from broadcaster.aio import wait_at_most
from broadcaster.bucket.lease import PrefixLease
from broadcaster.catalog import Catalog
from broadcaster.config import Settings
from broadcaster.errors import LeadLost, NotPossible, StorageError
from broadcaster.http import listening
from broadcaster.ipc.messages import HealthReport, State
from broadcaster.logs import feed_watchdog, notify
from broadcaster.metrics import MetricsCollector
from broadcaster.service.components import state_folder

logger = logging.getLogger(__name__)

LOOK = 0.1  # seconds


async def stand_by(
    settings: Settings,
    catalog: Catalog,
    lease: PrefixLease,
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
                while not (leads := lease.leads) and not stop.is_set():
                    await wait_at_most(LOOK, stop)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        registry.unregister(metrics)
    if leads and lease.floor:
        logger.warning("another broadcaster has led: playlists begin after its numbers")
        catalog.begin_after(lease.floor)
    return leads


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
