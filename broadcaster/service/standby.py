"""Standing by: a second broadcaster of a stream waits until it leads, and hands the lead over when asked.

A standby passes viewers' requests on to the leader, in the process of the viewer server; without
BROADCASTER_LEADER_URL its port for viewers stays closed. When it leads, its playlists begin after the numbers
in the lease, and recordings and clips are those in the bucket. A broadcaster that has lost the lead ends; its
next process stands by.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

from broadcaster.access.keeper import Keeper, adopt, seal, unseal
from broadcaster.admin import Lead, make_operator_app, own_token
from broadcaster.aio import Retrying, Signal, boot_time, wait_at_most
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import DEADLINE, ConditionalWriter
from broadcaster.bucket.lease import PrefixLease
from broadcaster.catalog import Catalog
from broadcaster.config import Settings
from broadcaster.errors import CatalogError, LeadLost, NotPossible, ObjectNotFound, Problem, StorageError
from broadcaster.http import listening
from broadcaster.http.server import public_health
from broadcaster.ipc.messages import HealthReport, Setup, State, View
from broadcaster.logs import feed_watchdog, notify
from broadcaster.metrics import Metric, MetricsCollector
from broadcaster.owncast import open_session
from broadcaster.recordings.rebuild import catch_up, go_on
from broadcaster.recordings.writer import Recorder
from broadcaster.service.components import TAKEOVER, access_key, now, state_folder
from broadcaster.service.supervisor import Part
from broadcaster.service.viewer_process import ViewerProcess, public_sockets
from broadcaster.source import FolderSource
from broadcaster.upload.uploader import WarmUploads

logger = logging.getLogger(__name__)

LOOK = 0.1  # seconds
READ_EVERY, ADOPT_EVERY, TRY_EVERY = 300.0, 30.0, 2.0  # seconds
READ_WITHIN = 5.0  # seconds
SAME = "give both the same release and the same secret for private events (BROADCASTER_ACCESS_SECRET)"
STANDBY = HealthReport(State.OFFLINE, 0, None, "stands by: another broadcaster leads", standby=True)
ASK_EVERY, RESOLVE_EVERY = 1.0, 60.0  # seconds
RESOLVE_WITHIN, AGAIN_AFTER = 5.0, 60.0  # seconds
MOST = 65_536  # bytes of an answer; usually 200
STANDS_BY = "stands by as well"
ADDRESS = "X-Client-Address"  # in /health of the viewers' listener alone, and not of the operator's


def reachable_metric(value: float = math.nan) -> Metric:
    """Whether a standby can use the leader's address; NaN of a broadcaster that leads."""
    text = "1 while viewers' requests can be passed on to the broadcaster that leads, NaN on that one itself"
    return Metric("leader_reachable", text, value)


class OtherBroadcaster:
    """The other broadcaster's listener for viewers, at ``url``: its addresses, and why it cannot be used."""

    def __init__(self, url: str) -> None:
        self.addresses: tuple[str, ...] = ()
        self.fault: str | None = "has not answered yet"
        self.url = url

    def metrics(self) -> Iterator[Metric]:
        """Whether it can be used."""
        yield reachable_metric(0.0 if self.fault else 1.0)

    async def follow(self) -> None:
        """Ask for its health each second, until cancelled."""
        async with open_session() as session:
            while True:
                self.fault = await why_not_leader(session, self.url)
                await asyncio.sleep(ASK_EVERY)

    async def resolve(self) -> None:
        """Keep the addresses up to date until cancelled."""
        host, port = URL(self.url).host, URL(self.url).port
        while True:
            with contextlib.suppress(OSError):  # the name may be known later; TimeoutError is one
                async with asyncio.timeout(RESOLVE_WITHIN):
                    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                self.addresses = tuple(str(address[0]) for *_, address in found)
            await asyncio.sleep(RESOLVE_EVERY if self.addresses else ASK_EVERY)


async def why_not_leader(session: aiohttp.ClientSession, url: str) -> str | None:
    """Why viewers' requests cannot be passed on to ``url``; None if they can."""
    try:
        async with session.get(f"{url}/health", allow_redirects=False) as answer:
            found = json.loads(await answer.content.read(MOST))
    except TimeoutError:
        return "does not answer"
    except (aiohttp.ClientError, OSError) as error:
        return f"cannot be reached ({type(error).__name__})"
    except (ValueError, RecursionError):
        found = None
    if ADDRESS not in answer.headers or not isinstance(found, dict):
        return "is not a broadcaster's listener for viewers"
    return STANDS_BY if found.get("status") == "standby" else None


class SharedAccess:
    """Who may watch a private event, sealed in the bucket, for the broadcaster that takes over.

    ``fault``: why this one could not let the leader's guests in, or why the bucket does not know the latest.
    Raises ValueError without BROADCASTER_ACCESS_SECRET.
    """

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        if settings.access_secret is None:
            raise ValueError("there is no BROADCASTER_ACCESS_SECRET")
        secret = settings.access_secret.get_secret_value().encode()
        self.fault: Problem | None = None
        self._secret = hmac.digest(secret, settings.prefix.encode(), "sha256")
        self._key = access_key(settings, settings.prefix)
        self._folder = settings.state_dir
        self._store, self._objects = store, ConditionalWriter(store)
        self._reading = asyncio.Lock()
        self._changed, self._was_stored = Signal(), Signal()
        self._stored = (0, 0)  # version

    async def adopt(self) -> bool:
        """Take over what the leader has written, if it is newer; False if the bucket does not answer."""
        async with self._reading:
            try:
                body = await self._store.get(self._key, deadline=DEADLINE)
                await asyncio.to_thread(adopt, self._folder, unseal(self._secret, body))
            except ObjectNotFound:
                self.fault = Problem("the leader has not written yet who may watch")
            except StorageError as error:
                logger.debug("who may watch is not read: %s", error)
                return False
            except ValueError:  # its text may have names of guests
                self.fault = Problem("the leader has another secret, or another release", SAME)
            except OSError as error:
                act = "look at the disk of the state folder (BROADCASTER_STATE_DIR)"
                self.fault = Problem(f"it cannot be kept: {error.strerror}", act)
            else:
                self.fault = None
        return True

    async def keep(self, keeper: Keeper) -> None:
        """Have a change written, and wait for that some seconds."""
        version = keeper.version
        self._changed.notify()
        try:
            async with asyncio.timeout(READ_WITHIN):
                while self._stored < version:
                    await self._was_stored.next().wait()
        except TimeoutError:
            logger.warning(
                "the bucket does not know yet who may watch: a standby that takes over now would not"
            )

    def share(self, keeper: Keeper, lease: PrefixLease) -> Part:
        """The part that writes what the keeper knows, at once and after each change."""
        keeper.on_share = partial(self.keep, keeper)
        return partial(self._run, keeper, lease)

    async def _run(self, keeper: Keeper, lease: PrefixLease) -> None:
        retrying = Retrying("writes of who may watch")
        while True:
            changed = self._changed.next()
            try:
                await keeper.lead(await lease.ask())
                version, sealed = keeper.version, seal(self._secret, keeper.state())
                await self._objects.put(self._key, sealed, 1)
            except StorageError as error:
                self.fault = retrying.failed(error).problem
                await retrying.pause(TRY_EVERY)
                continue
            retrying.worked()
            self.fault, self._stored = None, version
            self._was_stored.notify()
            await changed.wait()


@contextlib.asynccontextmanager
async def sockets_of_leader(
    settings: Settings, lease: PrefixLease, wait: Callable[[Sequence[socket.socket]], Awaitable[bool]]
) -> AsyncIterator[list[socket.socket]]:
    """The listening sockets of viewers, for a broadcaster that leads; none if it does not when it stops.

    A standby waits by ``wait``, and renews the lease from then on, before the part of the service does.
    """
    async with contextlib.AsyncExitStack() as stack:
        sockets: list[socket.socket] = []
        leads = True
        if not settings.standby or settings.leader_url:
            sockets = stack.enter_context(public_sockets(settings))
        if settings.standby:
            stack.push_async_callback(_cancel, asyncio.create_task(lease.run()))
            leads = await wait(sockets)
        if leads and not sockets:
            sockets = stack.enter_context(public_sockets(settings))
        yield sockets if leads else []


async def stand_by(  # noqa: PLR0913 - what it has of the service
    settings: Settings,
    catalog: Catalog,
    store: ObjectStore,
    lease: PrefixLease,
    sockets: Sequence[socket.socket],
    *,
    warm: WarmUploads,
    registry: CollectorRegistry,
    stop: asyncio.Event,
    setup: Setup,
) -> bool:
    """Wait until this broadcaster leads, or ``stop`` is set; returns whether it leads.

    The lease is renewed meanwhile, and a ``warm`` standby uploads in advance. If the settings name the other
    broadcaster, its answers are given on ``sockets``. The admin listener has ``/health``, ``/metrics`` and
    ``/api/lead``. A private event is not led before it is known who may watch. Raises ConfigError if the
    listener cannot be bound, CatalogError.
    """
    other = OtherBroadcaster(settings.leader_url) if settings.leader_url else None
    access = SharedAccess(store, settings) if settings.is_private else None
    report = partial(standby_report, other, access, warm)
    names = settings.admin_names.replace(",", " ").split()
    app = make_operator_app(report, registry, names=names, lead=want_lead(settings, lease))
    sources, works = [lease.metrics], [feed_watchdog(lambda: True)]
    if other:
        setup = replace(setup, leader=settings.leader_url)
        forwarder = ViewerProcess(setup, sockets, View(), public_health(report))
        forwarder.others = lambda: other.addresses
        sources += [forwarder.metrics, other.metrics]
        works += [other.follow(), other.resolve(), _run_beside(lease, forwarder.run)]
    if settings.standby == "warm":
        sources.append(warm.metrics)
        works.append(_run_beside(lease, partial(_upload_in_advance, warm, settings.hls_dir)))
    metrics = MetricsCollector(*sources)
    registry.register(metrics)
    # The lease of a leader that is live is live from the first.
    lease.ttl = lambda: lease.others_ttl
    where = "BROADCASTER_ADMIN_HOST, BROADCASTER_ADMIN_PORT"
    leads = False  # a lead that is in doubt once the listener has closed is renewed by the service
    try:
        async with listening(app, settings.admin_host, settings.admin_port, where):
            notify("READY=1")
            tasks = [asyncio.create_task(work) for work in works]
            try:
                recordings = partial(_read_recordings, store, catalog, settings.prefix)
                reading = [asyncio.create_task(_beside_leader(lease, recordings, READ_EVERY))]
                if access:
                    reading.append(asyncio.create_task(_beside_leader(lease, access.adopt, ADOPT_EVERY)))
                try:
                    while not (leads := lease.leads and (not access or await access.adopt())):
                        if stop.is_set():
                            break
                        await wait_at_most(LOOK, stop)
                finally:
                    await _cancel(*reading)
                if leads and lease.floor:
                    logger.warning("another broadcaster has led: playlists begin after its numbers")
                    stays = timedelta(seconds=max(settings.end_grace, TAKEOVER))
                    catalog.begin_after(lease.floor, (lease.left or catalog.now()) + stays)
            finally:
                await _cancel(*tasks)
    finally:
        registry.unregister(metrics)
    return leads


async def _run_beside(lease: PrefixLease, run: Part) -> None:
    """Run a part once another broadcaster leads, until cancelled; who leads at its start needs none."""
    while not lease.warning:
        await lease.changed.next().wait()
    await run()


async def _upload_in_advance(warm: WarmUploads, folder: Path) -> None:
    """Upload what the folder's encoder finishes, until cancelled."""
    while True:
        try:
            await warm.run(FolderSource(folder, now).run)
        except Exception:
            logger.exception("uploads in advance have failed, and begin again; please report this")
            await asyncio.sleep(AGAIN_AFTER)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def standby_report(
    other: OtherBroadcaster | None, access: SharedAccess | None, warm: WarmUploads | None = None
) -> HealthReport:
    """The health of a standby."""
    report = STANDBY
    if other and other.fault:
        reason = f"viewers get 503: the other broadcaster, {other.url}, {other.fault}"
        report = replace(report, reason=reason)
    if access and access.fault:
        warning = f"{report.warning}; after a takeover guests would not get in: {access.fault}"
        report = replace(report, warning=warning)
    if warm and warm.fault:
        warning = f"{report.warning}; segments are not uploaded in advance: {warm.fault.problem}"
        report = replace(report, warning=warning)
    return report


async def _beside_leader(lease: PrefixLease, read: Callable[[], Awaitable[object]], every: float) -> None:
    """Call ``read``, each so many seconds while another broadcaster leads, until cancelled."""
    while True:
        changed = lease.changed.next()
        if lease.warning:
            await read()
            await asyncio.sleep(every)
        else:
            await changed.wait()


async def _read_recordings(store: ObjectStore, catalog: Catalog, prefix: str) -> None:
    """Read what the leader has written of recordings and clips, so that little is left to be read later."""
    try:
        async with catalog.writer:
            await catch_up(store, catalog, prefix)
    except (StorageError, CatalogError) as error:
        logger.debug("recordings are not read: %s", error)


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
                await go_on(store, catalog, prefix)
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


async def watch_lead(lease: PrefixLease, catalog: Catalog, recorder: Recorder, stop: asyncio.Event) -> None:
    """Set ``stop`` when a standby asks for the lead. Raises LeadLost once another broadcaster leads.

    Before, while the stream goes on, the bucket gets a version of recordings: the last one is then soon made.
    """
    asked, writing = math.inf, None
    while True:
        changed = lease.changed.next()
        if lease.warning:
            raise LeadLost("another broadcaster leads: this one ends, and stands by when it is started again")
        if lease.must_hand_over:
            asked = min(asked, boot_time())
            if writing is None and not catalog.is_behind:
                writing = asyncio.create_task(_write_recordings(recorder))
            if (writing and writing.done()) or boot_time() - asked > TAKEOVER:
                break
        await changed.wait()
    logger.warning("a standby asks for the lead")
    stop.set()


async def _write_recordings(recorder: Recorder) -> None:
    try:
        await recorder.write(everything=True)
    except (StorageError, CatalogError) as error:
        logger.warning("recordings are not written before the lead is given up: %s", error)


async def hand_over(lease: PrefixLease, watch: asyncio.Task[None]) -> None:
    """Give the lead up if ``watch``, of ``watch_lead``, says that a standby waits; then raises LeadLost."""
    watch.cancel()
    if not lease.must_hand_over:
        return
    with contextlib.suppress(StorageError):  # then the standby waits until the lease is over
        await lease.give_up()
    raise LeadLost("the lead was given to a standby: this one ends, and stands by when it is started again")
