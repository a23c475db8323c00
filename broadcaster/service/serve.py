"""Runs the parts together: one TaskGroup owns every task, so that no part can die unnoticed.

Ingest (``Pipeline`` with its source) ends the process when it fails. All else runs under the ``Supervisor``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from broadcaster.config import LONGEST_SIGNATURE, Settings
from broadcaster.delivery.files import FileSweeper
from broadcaster.delivery.pipeline import Pipeline
from broadcaster.delivery.recorder import Recorder
from broadcaster.delivery.signing import Signing
from broadcaster.errors import CatalogError, StorageError
from broadcaster.events import Event, Observer
from broadcaster.feed import HealthReport, Setup, State
from broadcaster.figures import Figures
from broadcaster.logs import usual_form
from broadcaster.metrics import Metrics, process_registry
from broadcaster.notify import notify_stopping
from broadcaster.operator import History, VariantTable, make_operator_app
from broadcaster.owncast import picture
from broadcaster.service.audience import AudienceProcess
from broadcaster.service.clocks import now
from broadcaster.service.components import Components, bucket_of, open_catalog
from broadcaster.service.desk import desk_of, told_to_operator
from broadcaster.service.figures import figures_of
from broadcaster.service.guest_check import warn_of_address
from broadcaster.service.supervisor import Run, Supervisor
from broadcaster.storage import ObjectStore, open_store
from broadcaster.storage.signing import Signer
from broadcaster.web import Dashboard, address_of, bound, listening, raise_file_limit
from broadcaster.web.health import for_the_world
from broadcaster.web.listener import Complaints

logger = logging.getLogger(__name__)

PROBE_DEADLINE = 10.0  # seconds
LAST_WRITE = 5.0  # seconds for what recordings do not tell yet when the service stops
UNKNOWN = HealthReport(State.OFFLINE, 0, "how the service is cannot be told: see its log")
LAST_STEPS = 20.0  # seconds for all that follows on draining
# Where the page finds the newest recording, all of them, each of them, and itself.
OUR_PAGES = {"newest": "/recordings/newest.json", "list": "/recordings", "watch": "/watch/", "live": "/"}


async def serve(
    settings: Settings,
    stop: asyncio.Event | None = None,
    *,
    log_form: str | None = None,
    on_ready: Callable[[str, str], None] = lambda *_: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Run the service until ``stop``; then finish the uploads, within the time that is set for it.

    ``log_form`` is how the log is written (``broadcaster.logs``). ``on_ready`` is told the public and the
    operator's address once one can connect there, ``on_event`` whatever happens. Raises ConfigError when an
    address cannot be had or the state folder cannot be written, JournalError for its journal.
    """
    asyncio.get_running_loop().set_exception_handler(Complaints())
    registry = process_registry()
    history, variants = History(registry, now), VariantTable(now)
    dashboard = Dashboard(
        settings.dashboard_dir.absolute(),
        settings.viewer_dir.absolute() / "vendor",
        history.since,
        settings.egress_price,
        partial(picture, settings.owncast_url) if settings.owncast_url else None,
    )
    supervisor = Supervisor()
    observers: list[Observer] = []

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    with open_catalog(settings) as catalog, _public_sockets(settings) as sockets:
        async with open_store(bucket_of(settings)) as store:
            components = Components(settings, catalog, store, observe, supervisor)
            audience = components.audience = AudienceProcess(
                _setup(settings, dashboard, log_form or usual_form()),
                sockets,
                components.channel.view,
                supervisor.contained("health", for_the_world(components.health_of_ingest), UNKNOWN),
                supervisor.contained("history", history.since, []) if settings.public_dashboard else None,
                supervisor.contained("viewers' clips", components.viewers_clips, None),
            )
            own: dict[str, Observer] = {
                "metrics": Metrics(registry),
                "history": history,
                "variant table": variants,
                "events": on_event,
            }
            for name, observer in (_observers(components, audience) | own).items():
                observers.append(supervisor.contained(name, observer, None))
            registry.register(Figures(partial(figures_of, components), audience.figures, supervisor.figures))
            ProcessCollector("broadcaster_audience", audience.pid, registry=registry)
            shown = replace(dashboard, own=partial(told_to_operator, components, settings, variants))
            async with (
                catalog,
                _operator(settings, components, shown, registry, address_of(sockets)) as admin_address,
                asyncio.TaskGroup() as group,
            ):
                parts = _parts(components, settings) | {"history": history.run, "audience": audience.run}
                if settings.urls == "presigned":
                    signing = _signing(settings, store, audience)
                    parts["signing"] = signing.run
                    audience.on_wanted = supervisor.contained("signing", signing.want, None)
                for name, run in parts.items():
                    supervisor.start(group, name, run)
                # What is there now stays, 100,000 objects of the S3 client above all: to look through them
                # again and again would hold everything up for 50 ms each time.
                gc.collect()
                gc.freeze()
                logger.info("following %s, serving %s", settings.hls_dir, address_of(sockets))
                logger.info("dashboard at %s/dashboard, metrics at %s/metrics", admin_address, admin_address)
                on_ready(address_of(sockets), admin_address)
                await components.pipeline.run(
                    components.news.follow,
                    stop or asyncio.Event(),
                    settings.drain,
                    on_stop=partial(_stopping, components.pipeline, settings.drain),
                )
                if components.mirror:
                    await components.mirror.flush()
                await supervisor.stop("recorder")
                await _write_last(components.recorder)
                supervisor.stop_all()


def _stopping(pipeline: Pipeline, drain: float) -> None:
    logger.info("stopping; %d segments are on their way, for at most %g s", pipeline.backlog, drain)
    notify_stopping(drain + LAST_STEPS)


async def _write_last(recorder: Recorder) -> None:
    """What recordings do not tell yet, if the bucket takes it soon; else the next start writes it."""
    if recorder.fault:
        return
    try:
        async with asyncio.timeout(LAST_WRITE):
            await recorder.write(everything=True)
    except (StorageError, CatalogError, TimeoutError) as error:
        logger.warning("recordings in the bucket are out of date until the next start: %s", error)
    except Exception:
        logger.exception("recordings in the bucket are out of date until the next start; please report this")


def _signing(settings: Settings, store: ObjectStore, audience: AudienceProcess) -> Signing:
    bucket = bucket_of(settings)
    return Signing(
        store,
        lambda when: Signer(bucket, when, LONGEST_SIGNATURE).url,
        settings.prefix,
        audience.tell,
        now,
    )


def _observers(components: Components, audience: AudienceProcess) -> dict[str, Observer]:
    """Who is told of each event, in this order."""
    found: dict[str, Observer] = {
        "audience": audience,
        "losses": components.losses,
        "recorder": components.recorder,
        "pictures": components.pictures,
        "guest check": components.guest_check,
    }
    return found | ({"mirror": components.mirror} if components.mirror else {})


def _parts(components: Components, settings: Settings) -> dict[str, Run]:
    """The parts that the stream can do without."""
    parts: dict[str, Run] = {
        "lag": components.lag.run,
        "probe": partial(_probe, components.store, settings),
        "sweeper": components.sweeper.run,
        "files": FileSweeper(components.store, components.catalog, now, prefix=settings.prefix).run,
        "recorder": components.recorder.run,
        "viewers' clips": components.viewers_clips.run,
        "pictures": components.pictures.run,
        "guest check": components.guest_check.run,
        "owner": components.owner.run,
        "systemd": components.tell_systemd,
    }
    if components.mirror:
        parts["mirror"] = components.mirror.run
    if components.owncast:
        parts["owncast"] = components.owncast.run
    return parts


@asynccontextmanager
async def _operator(
    settings: Settings,
    components: Components,
    dashboard: Dashboard,
    registry: CollectorRegistry,
    public_address: str,
) -> AsyncIterator[str]:
    """Serve the operator while inside; yields the address."""
    ask_owncast = components.owncast.ask if components.owncast else None
    app = make_operator_app(
        components.health,
        registry,
        dashboard,
        ask_owncast=ask_owncast,
        names=settings.admin_names.replace(",", " ").split(),
        refresh=components.audience.refresh if components.audience else None,
        desk=desk_of(components, settings, public_address),
    )
    names = "BROADCASTER_ADMIN_HOST, BROADCASTER_ADMIN_PORT"
    async with listening(app, settings.admin_host, settings.admin_port, names) as address:
        yield address


@contextmanager
def _public_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """Where viewers connect; whoever serves them comes and goes, these stay."""
    sockets = bound(settings.host, settings.port, "BROADCASTER_HOST, BROADCASTER_PORT")
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def _setup(settings: Settings, dashboard: Dashboard, log_form: str) -> Setup:
    places = raise_file_limit(settings.max_connections)
    if places < settings.max_connections:
        logger.warning("the limit of open files leaves room for %d connections", places)
    shown = (dashboard.folder, dashboard.vendor, dashboard.egress_price)
    return Setup(
        settings.viewer_dir.absolute(),
        page={
            "eventsUrl": "/live/events",
            "beaconUrl": "/live/beacon",
            "mode": settings.viewer_mode,
            "prices": dashboard.prices,
            "trackerUrl": "/live/tracker" if settings.has_own_tracker else settings.tracker_url,
            "keptUrl": "/live/kept.m3u8" if settings.keeps_for_those_behind else None,
            "recordings": OUR_PAGES if settings.has_pages else None,
            "clipsUrl": "/live/clips" if settings.viewer_clips else None,
        },
        recordings=settings.has_pages,
        clips=settings.viewer_clips,
        signed=settings.urls == "presigned",
        waiters=settings.max_waiters,
        places=places,
        trusted_header=settings.trusted_header,
        tracker=settings.has_own_tracker,
        dashboard=shown if settings.public_dashboard else None,
        log=(settings.log_level, log_form),
    )


async def _probe(store: ObjectStore, settings: Settings) -> None:
    """Say at once what is wrong with the bucket. It is no reason to stop: it may be mended meanwhile."""
    warn_of_address(settings)
    try:
        await store.check(settings.prefix, deadline=PROBE_DEADLINE)
    except StorageError as error:
        logger.error("the bucket cannot be used now, uploads will be tried again: %s", error)
