"""Runs all parts of the service in one TaskGroup, and exports their metrics.

The process ends if the ``Pipeline`` or its source fails. All other parts run under the ``Supervisor``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from broadcaster.admin import (
    Access,
    Dashboard,
    History,
    VariantTable,
    make_operator_app,
    own_token,
    token_file,
)
from broadcaster.bucket import ObjectStore, open_store
from broadcaster.bucket.lease import owner_key
from broadcaster.bucket.session import Signer
from broadcaster.config import LONGEST_SIGNATURE, Settings
from broadcaster.edge import EdgePublisher
from broadcaster.errors import CatalogError, EncoderError, StorageError
from broadcaster.events import (
    Event,
    Observer,
    SegmentDiscovered,
    SegmentLost,
    SegmentPublished,
    SegmentUploaded,
    StreamStarted,
    UploadFailed,
)
from broadcaster.guest import configured_event, configured_page, warn_of_address
from broadcaster.hls import MultivariantPlaylist
from broadcaster.http import address_of, listening
from broadcaster.http.server import LoopErrorHandler, public_health
from broadcaster.ipc.messages import EdgeReports, Grants, HealthReport, Pong, State, View
from broadcaster.logs import notify_stopping
from broadcaster.metrics import Metric, MetricsCollector, build_info
from broadcaster.owncast import picture
from broadcaster.recordings.admin_api import RecordingsAdmin
from broadcaster.recordings.file_uploads import Uploads
from broadcaster.recordings.posters import Posters
from broadcaster.recordings.rebuild import rebuild
from broadcaster.recordings.signer import Signing
from broadcaster.service.components import (
    Components,
    access_key,
    bucket_of,
    lease_of,
    lease_secret,
    now,
    open_catalog,
    state_folder,
)
from broadcaster.service.health import seconds_of_room
from broadcaster.service.standby import (
    OtherBroadcaster,
    SharedAccess,
    hand_over,
    late_parts,
    reachable_metric,
    sockets_of_leader,
    stand_by,
    want_lead,
    watch_lead,
)
from broadcaster.service.supervisor import Part, Supervisor
from broadcaster.service.viewer_process import ViewerProcess, message_of, setup_of
from broadcaster.upload.deleter import FileDeleter, sweep
from broadcaster.upload.pipeline import Pipeline
from broadcaster.upload.uploader import WarmUploads
from broadcaster.viewer_server.pages import PageTexts

SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)

TRANSIENT, PERMANENT = "passing", "permanent"  # values of the label kind


class Metrics:
    """An observer that counts events in the metrics of ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"broadcaster_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"broadcaster_{name}", text, ["variant"], buckets=SECONDS, registry=registry)

        self._discovered = counter("segments_discovered", "Segments that the source finished", "variant")
        self._published = counter(
            "segments_published", "Segments listed for viewers, gaps included", "variant"
        )
        self._lost = counter("segments_lost", "Segments listed as gaps: broken or gone", "variant")
        self._bytes = counter("uploaded_bytes", "Bytes that the bucket has confirmed", "variant")
        self._failures = counter(
            "upload_failures", "Attempts that failed and are made again", "variant", "kind"
        )
        self._streams = counter("streams_started", "Streams that went live")
        self._upload = histogram("upload_seconds", "Time of the successful PUT of an object")
        self._delay = histogram(
            "publish_delay_seconds", "From segment complete on disk to listed for viewers"
        )

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case SegmentDiscovered(variant=variant):
                self._discovered.labels(variant).inc()
                self._start_at_zero(variant)
            case UploadFailed(variant=variant, permanent=permanent):
                self._failures.labels(variant, PERMANENT if permanent else TRANSIENT).inc()
            case SegmentUploaded(variant=variant, size=size, seconds=seconds):
                self._bytes.labels(variant).inc(size)
                self._upload.labels(variant).observe(seconds)
            case SegmentLost(variant=variant):
                self._lost.labels(variant).inc()
            case SegmentPublished(segment=segment):
                self._published.labels(segment.variant).inc()
                if event.delay is not None:
                    self._delay.labels(segment.variant).observe(max(event.delay, 0))
            case StreamStarted():
                self._streams.inc()

    def _start_at_zero(self, variant: str) -> None:
        """Create the counters of failures, so that Prometheus sees the first failure as an increase."""
        self._lost.labels(variant)
        for kind in (TRANSIENT, PERMANENT):
            self._failures.labels(variant, kind)


def process_registry() -> CollectorRegistry:
    """A registry with the process's own metrics (memory, CPU, open files, garbage collection)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def recordings_admin(components: Components, settings: Settings, address: str) -> RecordingsAdmin:
    """The operator's API of recordings; ``address`` is the viewers' listener. Raises ConfigError."""
    store, catalog, prefix = components.store, components.catalog, settings.prefix
    with state_folder(settings):
        token = own_token(settings.state_dir)
    secrets = (b"", lease_secret(settings))
    owners = {owner_key(earlier, secret) for earlier in catalog.prefixes(prefix) for secret in secrets}
    owners |= {access_key(settings, earlier) for earlier in catalog.prefixes(prefix)}
    return RecordingsAdmin(
        token,
        catalog,
        components.recorder.write_soon,
        sweep=lambda dry_run: sweep(store, catalog, prefix, owners, dry_run=dry_run),
        rebuild=lambda: rebuild(store, catalog, prefix),
        newest=lambda: newest(components.pipeline.view),
        page=partial(asyncio.to_thread, page_address, settings, address),
        uploads=Uploads(store, catalog, prefix, components.recorder.write_soon),
        folder=f"{settings.public_url}/{prefix}/recordings/" if settings.urls == "public" else None,
        is_private=settings.is_private,
    )


def dashboard_fields(
    components: Components, settings: Settings, variants: VariantTable, report: HealthReport, page: str
) -> dict[str, Any]:
    """Further fields of the dashboard's data.json; ``newest`` in milliseconds."""
    view, waiting = components.pipeline.view, components.stream.waiting
    end = newest(view)
    main = view.main.playlist if view.main else None
    described = main.variants if isinstance(main, MultivariantPlaylist) else ()
    qualities = {
        variant.uri.partition("/")[0]: name for variant, name in zip(described, view.qualities, strict=True)
    }
    spool, uplink = components.spool, components.pipeline.uplink
    pong = components.viewer_server.pong if components.viewer_server else Pong(())
    return {
        "tokenFile": str(token_file(settings.state_dir.absolute())),
        "checklist": components.checklist(report, page),
        "uplink": {"needed": 8 * uplink.needed, "left": 0.0 if uplink.shortage else uplink.left},
        "spool": {
            "bytes": spool.size,
            "lasts": seconds_of_room(spool.free, spool.limit, spool.size, uplink.needed),
        },
        "pages": {
            "playing": pong.pages_with_picture,
            "failing": pong.pages_without_picture,
            "undecodable": pong.pages_undecodable,
        },
        "epoch": components.lease.epoch,
        "picture": bool(settings.owncast_url or components.posters.picture),
        "pictured": None if settings.owncast_url else components.posters.pictured,
        "newest": end and 1000 * end.timestamp(),
        "table": [
            variants.row(name) | {"quality": qualities.get(name, name), "waiting": waiting[name]}
            for name in view.playlists
        ],
    }


async def latest_picture(posters: Posters, owncast: str | None) -> bytes:
    """A picture of the stream: Owncast's, or the live poster. Raises EncoderError."""
    if owncast:
        return await picture(owncast)
    if posters.picture is None:
        raise EncoderError("there is none yet")
    return posters.picture


def newest(view: View) -> datetime | None:
    """The program date-time up to which all variants are listed; None before a stream."""
    playlists = [version.playlist for version in view.playlists.values()]
    last = [playlist.segments[-1] for playlist in playlists if playlist.segments]
    ends = (segment.program_date_time + segment.duration for segment in last if segment.program_date_time)
    return min(ends, default=None)


def page_address(settings: Settings, address: str) -> str | None:
    """The configured address of the live page, or ``address``; None if recordings have no pages."""
    return (configured_page(settings) or address) if settings.has_pages else None


def metrics_of(components: Components) -> Iterator[Metric]:
    """Metrics that are read when Prometheus scrapes."""
    yield from build_info()
    yield Metric("lag_seconds", "Delay of the event loop of ingest", components.lag.seconds)
    spool, catalog = components.spool, components.catalog
    yield Metric("live", "1 while a stream is live", components.pipeline.view.state is State.LIVE)
    yield Metric("source_ended", "1 while the source says that its stream is over", components.source_ended)
    health = components.health()
    yield Metric("failing", "1 while /health answers 503", health.reason is not None)
    yield Metric("frozen_seconds", "Seconds for which viewers have seen a still picture", health.frozen or 0)
    yield Metric("backlog_segments", "Segments finished and not yet listed", components.pipeline.backlog)
    yield Metric("spool_bytes", "Bytes in the spool", spool.size)
    yield Metric("spool_limit_bytes", "Limit of the spool in bytes", spool.limit)
    yield Metric("spool_free_bytes", "Bytes free on the disk of the spool", spool.free)
    yield Metric("stored_bytes", "Bytes of segments in the bucket", catalog.stored_bytes)
    text = "Requests to the bucket by price class: a, b or free"
    yield Metric("bucket_operations", text, components.store.operations, labels=("class",), is_counter=True)
    yield Metric("deleted_objects", "Objects deleted", components.deleter.deleted, is_counter=True)
    yield Metric("journal_failing", "1 while the journal cannot be written", catalog.writer.fault is not None)
    text = "1 while another broadcaster leads under the same prefix"
    yield Metric("prefix_shared", text, components.lease.warning is not None)
    yield from components.lease.metrics()
    yield reachable_metric()
    if components.push:
        yield from components.push.metrics()
    yield from components.posters.metrics()
    yield from components.guest_check.metrics()
    if mirror := components.mirror:
        text = "Attempts to put a playlist into the bucket by outcome: done or failed"
        writes = {"done": mirror.writes, "failed": mirror.failures}
        yield Metric("mirror_writes", text, writes, labels=("outcome",), is_counter=True)
        behind = 0 if components.lease.warning else mirror.behind
        yield Metric("mirror_behind", "Playlists not up to date in the bucket, while it leads", behind)
    if components.edge:
        yield from components.edge.metrics()
    for watch in filter(None, (components.owncast, components.mediamtx)):
        connected = math.nan if watch.connected is None else watch.connected
        program = watch.program
        text = f"1 while {program} says that an encoder is connected, 0 while none is, NaN if unknown"
        yield Metric(f"{program.lower()}_connected", text, connected)


logger = logging.getLogger(__name__)

PROBE_DEADLINE, LAST_WRITE = 10.0, 5.0  # seconds; for the last version of recordings when it stops
UNKNOWN = HealthReport(State.OFFLINE, 0, "the health of the service is unknown: see its log")
LAST_STEPS = 20.0  # seconds from the end of draining to the end of the process


async def serve(
    settings: Settings,
    stop: asyncio.Event | None = None,
    *,
    log_format: str | None = None,
    on_ready: Callable[[str, str], None] = lambda *_: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Run the service until ``stop``, then finish the uploads within BROADCASTER_DRAIN_SECONDS.

    ``log_format`` is the format of the viewer server's log. ``on_ready`` is called with the public and the
    admin address, ``on_event`` with each event. Raises ConfigError if an address cannot be bound or the state
    folder cannot be written, CatalogError if the catalog cannot be read, LeadLost if a standby leads instead.
    """
    asyncio.get_running_loop().set_exception_handler(LoopErrorHandler())
    registry, stop = process_registry(), stop or asyncio.Event()
    history, variants = History(registry, now), VariantTable(now)
    dashboard = Dashboard(
        settings.dashboard_dir.absolute(),
        settings.viewer_dir.absolute() / "vendor",
        history.since,
        settings.egress_price,
    )
    supervisor, observers = Supervisor(), list[Observer]()

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    async with AsyncExitStack() as stack:
        catalog = stack.enter_context(open_catalog(settings))
        store = await stack.enter_async_context(open_store(bucket_of(settings)))
        lease, setup = lease_of(settings, store), setup_of(settings, dashboard.prices, log_format)
        warm = WarmUploads(store, settings.prefix)
        wait = partial(
            stand_by, settings, catalog, store, lease, warm=warm, registry=registry, stop=stop, setup=setup
        )
        if not (sockets := await stack.enter_async_context(sockets_of_leader(settings, lease, wait))):
            return
        components = Components(settings, catalog, store, observe, supervisor, lease=lease, warm=warm)
        viewer_server = components.viewer_server = ViewerProcess(
            setup,
            sockets,
            components.pipeline.view,
            supervisor.contained("health", public_health(components.health_of_ingest), UNKNOWN),
            supervisor.contained("viewers' clips", components.viewer_clips, None),
        )
        if components.keeper:
            viewer_server.admit(components.keeper.grants(), components.keeper)
            components.keeper.on_change = partial(_admit, components)
            viewer_server.on_guests = supervisor.contained("access", components.keeper.count, None)
        own: dict[str, Observer] = {
            "metrics": Metrics(registry),
            "history": history,
            "variant table": variants,
            "events": on_event,
        }
        for name, observer in (_observers(components, viewer_server) | own).items():
            observers.append(supervisor.contained(name, observer, None))
        if settings.edge_url:
            components.edge = edge = _edge(settings, components, viewer_server, supervisor)
            observers.append(supervisor.contained("edge", partial(_send_to_edge, edge), None))
        registry.register(
            MetricsCollector(partial(metrics_of, components), viewer_server.metrics, supervisor.metrics)
        )
        ProcessCollector("broadcaster_audience", viewer_server.pid, registry=registry)
        dashboard = replace(
            dashboard,
            picture=partial(latest_picture, components.posters, settings.owncast_url),
            own=partial(dashboard_fields, components, settings, variants),
            page=lambda: configured_page(settings) or address_of(sockets),
        )
        async with (
            catalog.writer,
            _admin_listener(settings, components, dashboard, registry, address_of(sockets)) as admin_address,
            _push_listener(settings, components),
            asyncio.TaskGroup() as group,
        ):
            parts = _parts(components, settings) | {"history": history.run, "audience": viewer_server.run}
            parts |= _signing(settings, store, viewer_server, supervisor)
            parts |= _beside_another(components, settings, viewer_server)
            for name, run in parts.items():
                supervisor.start(group, name, run)
            # The 100,000 objects that exist now stay, most for the S3 client: a garbage collection of all
            # would stop everything for 50 ms.
            gc.collect()
            gc.enable()
            gc.freeze()
            logger.info("following %s, serving %s", settings.hls_dir, address_of(sockets))
            log_admin_address(settings, admin_address)
            on_ready(address_of(sockets), admin_address)
            recorder = components.recorder
            watch = settings.standby and group.create_task(watch_lead(lease, catalog, recorder, stop))
            await components.pipeline.run(
                components.source.run,
                stop,
                settings.drain,
                on_stop=partial(_stopping, components.pipeline, settings.drain),
                hands_over=lambda: lease.must_hand_over,
            )
            if components.mirror:
                await components.mirror.flush()
            await _write_last(components, supervisor)
            supervisor.stop_all()
            if watch:
                await hand_over(lease, watch)


def _beside_another(
    components: Components, settings: Settings, viewer_server: ViewerProcess
) -> dict[str, Part]:
    """The parts of one of two broadcasters for the other one: where it is, and who may watch."""
    viewer_server.leads_until = components.leads_until
    parts = dict[str, Part]()
    if settings.leader_url:  # viewers may come through the other one
        other = OtherBroadcaster(settings.leader_url)
        viewer_server.others = lambda: other.addresses
        parts["other broadcaster"] = other.resolve
    if settings.standby and components.keeper:
        access = SharedAccess(components.store, settings)
        components.access_fault = lambda: access.fault
        parts["shared access"] = access.share(components.keeper, components.lease)
    return parts


def _signing(
    settings: Settings, store: ObjectStore, viewer_server: ViewerProcess, supervisor: Supervisor
) -> dict[str, Part]:
    """The part that signs playlists of recordings in a private bucket."""
    if settings.urls != "presigned":
        return {}
    bucket = bucket_of(settings)
    signing = Signing(
        store,
        lambda when: Signer(bucket, when, LONGEST_SIGNATURE).url,
        settings.prefix,
        viewer_server.send,
        now,
    )
    viewer_server.on_wanted = supervisor.contained("signing", signing.want, None)
    return {"signing": signing.run}


def _stopping(pipeline: Pipeline, drain: float) -> None:
    logger.info("stopping; uploading %d segments, for at most %g s", pipeline.backlog, drain)
    notify_stopping(drain + LAST_STEPS)


async def _write_last(components: Components, supervisor: Supervisor) -> None:
    """Write the last version of recordings, if the bucket answers soon; else the next start writes it."""
    if (recorder := components.recorder).fault or components.catalog.is_behind:
        return
    try:
        async with asyncio.timeout(LAST_WRITE):
            async with recorder.lock:  # a version that is under way need not be made again
                await supervisor.stop("recorder")
            await recorder.write(everything=True)
    except (StorageError, CatalogError, TimeoutError) as error:
        logger.warning("recordings in the bucket are out of date until the next start: %s", error)
    except Exception:
        logger.exception("recordings in the bucket are out of date until the next start; please report this")


def _edge(
    settings: Settings, components: Components, viewer_server: ViewerProcess, supervisor: Supervisor
) -> EdgePublisher:
    """The publisher to the edge; raises ValueError without an address and a key."""
    if not settings.edge_url or not settings.edge_key:
        raise ValueError("there is no edge")
    keeper = components.keeper
    page = dict(viewer_server.setup.page) | {"clipsUrl": None}  # the edge cannot make clips
    if settings.urls == "presigned":
        page["recordings"] = None
    edge = EdgePublisher(
        settings.edge_url,
        settings.edge_key.get_secret_value(),
        PageTexts(page, viewer_server.setup.viewer_dir, is_private=settings.is_private),
        report=supervisor.contained("health", public_health(components.health), UNKNOWN),
        pong=lambda: viewer_server.pong,
        on_reports=lambda reports: viewer_server.send(EdgeReports(tuple(reports))),
        epoch=components.edge_epoch,
        outbid=components.lease.outbid,
        wall=now,
        grants=keeper.grants() if keeper else None,
        passphrase=keeper if settings.access == "passphrase" else None,
        on_opened=supervisor.contained("invitations", keeper.count_opened, None)
        if keeper
        else lambda _: None,
    )
    edge.show(components.pipeline.view)
    return edge


def _send_to_edge(edge: EdgePublisher, event: Event) -> None:
    if message := message_of(event):
        edge.send(message)


def _observers(components: Components, viewer_server: ViewerProcess) -> dict[str, Observer]:
    """The observers of events, in the order in which they are called."""
    found: dict[str, Observer] = {
        "audience": viewer_server,
        "recorder": components.recorder,
        "pictures": components.posters,
        "guest check": components.guest_check,
        "rehearsals": components.note_rehearsal,
        "owner": partial(_renew_soon, components),
    }
    return found | ({"mirror": components.mirror} if components.mirror else {})


def _renew_soon(components: Components, event: Event) -> None:
    """Let others know at once that a stream begins: they wait for a leader that is idle for longer."""
    if isinstance(event, SegmentDiscovered | StreamStarted):
        components.lease.renew_soon()


def _parts(components: Components, settings: Settings) -> dict[str, Part]:
    """The optional parts, which run under the supervisor."""
    parts: dict[str, Part] = {
        "lag": components.lag.run,
        "probe": partial(_probe, components.store, settings),
        "sweeper": components.deleter.run,
        "files": FileDeleter(components.store, components.catalog, now, prefix=settings.prefix).run,
        "recorder": components.recorder.run,
        "viewers' clips": components.viewer_clips.run,
        "pictures": components.posters.run,
        "guest check": components.guest_check.run,
        "owner": components.lease.run,
        "systemd": components.report_to_systemd,
    }
    if components.mirror:
        parts["mirror"] = components.mirror.run
    if components.edge:
        parts["edge"] = components.edge.run
    if components.owncast:
        parts["owncast"] = components.owncast.run
    if components.mediamtx:
        parts["mediamtx"] = components.mediamtx.run
    if components.keeper:
        keeper = components.keeper
        parts |= {"access": keeper.run, "invitations": keeper.keep_counts, "doors": keeper.keep_time}
        parts["rehearsals"] = components.end_rehearsals
    if components.gate_file:
        parts["gate file"] = components.gate_file.run
    return parts | late_parts(components.store, components.catalog, settings.prefix, parts)


def _admit(components: Components, grants: Grants) -> None:
    """Tell all gates who may watch."""
    if components.viewer_server:
        components.viewer_server.admit(grants)
    if components.gate_file:
        components.gate_file.update(grants)
    if components.edge:
        components.edge.admit(grants)


@asynccontextmanager
async def _admin_listener(
    settings: Settings,
    components: Components,
    dashboard: Dashboard,
    registry: CollectorRegistry,
    public_address: str,
) -> AsyncIterator[str]:
    """A context in which the admin listener serves; yields its address."""
    ask_owncast = components.owncast.ask if components.owncast else None
    app = make_operator_app(
        components.health,
        registry,
        dashboard,
        ask_owncast=ask_owncast,
        names=settings.admin_names.replace(",", " ").split(),
        refresh=components.viewer_server.refresh if components.viewer_server else None,
        recordings=recordings_admin(components, settings, public_address),
        access=Access(components.keeper, partial(configured_event, settings), public_address),
        lead=want_lead(settings, None),
    )
    names = "BROADCASTER_ADMIN_HOST, BROADCASTER_ADMIN_PORT"
    async with listening(app, settings.admin_host, settings.admin_port, names) as address:
        yield address


@asynccontextmanager
async def _push_listener(settings: Settings, components: Components) -> AsyncIterator[None]:
    """A context in which the listener for an encoder that pushes serves, if there is one."""
    if components.push is None:
        yield
        return
    names = "BROADCASTER_PUSH_HOST, BROADCASTER_PUSH_PORT"
    async with listening(components.push.app(), settings.push_host, settings.push_port, names) as address:
        logger.info("encoders push to %s/ingest/", address)
        yield


def log_admin_address(settings: Settings, address: str) -> None:
    """Log the addresses of the dashboard and the metrics."""
    logger.info("dashboard at %s/dashboard, metrics at %s/metrics", address, address)
    if settings.public_dashboard:
        logger.warning(
            "BROADCASTER_PUBLIC_DASHBOARD has no effect: the dashboard is on the admin listener alone,"
            " at %s/dashboard",
            address,
        )


async def _probe(store: ObjectStore, settings: Settings) -> None:
    """Log a fault of the bucket at once. The service goes on, because the fault may be repaired."""
    warn_of_address(settings)
    try:
        await store.check(settings.prefix, deadline=PROBE_DEADLINE)
    except StorageError as error:
        logger.error("the bucket cannot be used now, uploads are retried: %s", error)
