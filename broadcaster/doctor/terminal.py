"""The command ``broadcaster check``: the list of checks in their order, and the output on the terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from broadcaster.bucket import open_store
from broadcaster.bucket.lease import stored_name
from broadcaster.config import ENV_FILE, Settings, load
from broadcaster.doctor import bucket, folders, machine, repair
from broadcaster.doctor.bucket import BucketChecks, Clients, open_settings, probing
from broadcaster.doctor.edge import EdgeChecks
from broadcaster.doctor.folders import Survey
from broadcaster.doctor.public import PublicChecks, TunnelChecks
from broadcaster.doctor.report import Check, Report, Result, examine, in_thread
from broadcaster.errors import ConfigError
from broadcaster.guest import open_browser
from broadcaster.printable import ProgressLine, write
from broadcaster.service import bucket_of, lease_secret, peppers_of, shared_settings
from broadcaster.service.health import CheckFinding, failed, ok, skipped

HANGS = "does the file system hang? A network file system does when its server is away"
EXIT_FAILED, EXIT_CONFIG = 1, 2
BUDGET = 10.0  # seconds for all checks; the start and the cleanup are not included
SIGNED_FOR = timedelta(minutes=10)


class CheckList:
    """All checks for these settings, and the values that checks pass to later checks.

    ``public`` is the public address of the service, ``dashboard`` the origin of the dashboard that uploads
    files; checks of these are left out for None. ``edge`` says whether to check the edge tier.
    """

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        public: str | None,
        dashboard: str | None = None,
        *,
        edge: bool = False,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._address = public
        self._dashboard = dashboard
        self._edge = edge
        self._bucket = BucketChecks(clients, settings.s3_endpoint, settings.prefix, lease_secret(settings))
        self._public = PublicChecks(clients, settings.public_url or "")
        self._survey = Survey()

    def checks(self, allowed: str | None) -> list[Check]:
        """All checks in order. ``allowed`` is the origin, or ``*``, of --fix; None without --fix."""
        uploads = self._uploads() if self._dashboard else []
        repairs = self._repairs(allowed) if allowed else []
        return [
            *self._local(),
            *self._of_bucket(),
            *repairs,
            *uploads,
            *self._of_public(),
            *self._of_tunnel(),
            *self._of_edge(),
        ]

    def _local(self) -> list[Check]:
        """The checks of settings, machine, folders and Owncast."""
        settings = self._settings
        hls, state, url = settings.hls_dir, settings.state_dir, settings.owncast_url
        public, admin = (settings.host, settings.port), (settings.admin_host, settings.admin_port)
        env_file = Check("env-file", "keys on disk", partial(in_thread, folders.env_file, ENV_FILE))
        addresses = partial(machine.addresses, self._clients.browser, public, admin)
        files = partial(in_thread, machine.open_files, settings.max_connections)
        readable = partial(in_thread, folders.hls_folder, hls)
        by_folder = [
            Check("hls-folder", "HLS folder", readable, on_timeout=HANGS),
            Check("hls-playlists", "HLS playlists", self._playlists, ("hls-folder",), on_timeout=HANGS),
            Check("hls-live", "stream being written", self._writing, ("hls-playlists",)),
        ]
        by_push = [Check("push", "encoder's listener", partial(machine.push_listener, settings))]
        links = Check("state-links", "links, not copies", self._links, ("hls-folder", "state-folder"))
        pushes = settings.source == "push"
        writable = partial(in_thread, folders.state_folder, state)
        known = partial(in_thread, folders.passphrase, state, peppers_of(settings))
        passphrase = Check("passphrase", "passphrase", known, ("state-folder",))
        return [
            Check("settings", "settings", self._complete),
            Check("names", "names of settings", partial(in_thread, machine.names)),
            *([env_file] if ENV_FILE.exists() else []),
            Check("operator", "operator's listener", partial(in_thread, machine.admin_listener, admin[0])),
            Check("addresses", "addresses", addresses),
            Check("page", "page", partial(in_thread, machine.page, settings.viewer_dir)),
            Check("open-files", "open files", files),
            Check("pictures", "pictures", partial(in_thread, machine.ffmpeg, settings)),
            *(by_push if pushes else by_folder),
            Check("state-folder", "state folder", writable, on_timeout=HANGS),
            *([] if pushes else [links]),
            *([passphrase] if settings.access == "passphrase" else []),
            Check("state-room", "room for the spool", self._disk_space, ("state-folder",)),
            *([Check("owncast", "Owncast", partial(machine.owncast, url))] if url else []),
            *([Check("mediamtx", "MediaMTX", self._mediamtx)] if settings.mediamtx_url else []),
        ]

    def _of_bucket(self) -> list[Check]:
        checks = self._bucket
        return [
            Check("endpoint", "endpoint", checks.endpoint, ("settings",)),
            Check("clock", "clock", checks.clock, ("endpoint",)),
            Check("access", "key and bucket", checks.access, ("endpoint", "clock")),
            Check("owner", "one broadcaster", self._lease, ("access",)),
            *([Check("other", "other broadcaster", self._other)] if self._settings.standby else []),
            Check("put", "PUT", checks.put, ("access",)),
            Check("head", "HEAD", checks.head, ("put",)),
            Check("get", "ranged GET", checks.get, ("put",)),
            Check("uplink", "uplink", self._uplink, ("put",), deadline=bucket.PATIENCE + 1),
            *([Check("warm", "warm standby", self._warm)] if self._settings.standby == "warm" else []),
        ]

    def _repairs(self, allowed: str) -> list[Check]:
        settings, client = self._settings, self._clients.settings
        days = repair.backstop_days(settings.retention, settings.window)
        cors = partial(repair.fix_cors, client, self._clients.browser.origin, allowed)
        lifecycle = partial(repair.fix_lifecycle, client, settings.prefix, days)
        uploads = partial(repair.fix_uploads, client, self._dashboard or "")
        checks = [
            Check("fix-cors", "CORS policy", cors, ("access",)),
            Check("fix-lifecycle", "lifecycle rules", lifecycle, ("access",)),
            Check("fix-uploads", "CORS policy for uploads", uploads, ("access",)),
        ]
        return checks if self._dashboard else checks[:2]

    def _uploads(self) -> list[Check]:
        settings = self._settings
        address = f"{settings.s3_endpoint}/{settings.bucket}/{settings.prefix}/files/a"
        run = partial(repair.may_upload, self._clients.browser, address, self._dashboard or "")
        return [Check("uploads", "uploads from the dashboard", run, ("endpoint",))]

    def _of_public(self) -> list[Check]:
        public, needs = self._public, ("public-object",)
        # Signed URLs are the endpoint's own.
        endpoint = ("access",) if self._settings.urls == "presigned" else ()
        delete, deadline = self._bucket.delete, 3 * bucket.CLEANUP + bucket.SETTLE + 0.5
        private = [Check("public-list", "no list for strangers", public.no_list)]
        return [
            *(private if self._settings.is_private and self._settings.urls == "public" else []),
            Check("public-address", "viewers' address", public.address, endpoint),
            Check("public-protocol", "viewers' protocol", public.protocol, ("public-address",)),
            Check("public-object", "viewers read", self._read, ("put", "public-address")),
            Check("public-headers", "headers", public.headers, needs),
            Check("public-cors", "CORS", public.cors, needs),
            Check("public-ranges", "ranges", public.ranges, needs),
            Check("public-preflight", "CORS preflight", public.preflight, needs),
            Check("public-404", "404 and then there", public.absent, needs),
            Check("public-cache", "edge cache", public.edge, needs),
            Check("delete", "DELETE", delete, ("access",), deadline=deadline, always=True),
        ]

    def _of_tunnel(self) -> list[Check]:
        if not self._address:
            return []
        tunnel = TunnelChecks(self._clients.browser, self._address)
        open_to_all = [
            Check("tunnel-page", "page through the tunnel", tunnel.page),
            Check("tunnel-playlist", "playlists through the tunnel", tunnel.playlist),
        ]
        gate = [Check("tunnel-gate", "gate through the tunnel", tunnel.gate)]
        return [
            *(gate if self._settings.is_private else open_to_all),
            Check("tunnel-closed", "operator's pages through the tunnel", tunnel.closed),
            Check("tunnel-address", "viewers' addresses through the tunnel", tunnel.addresses),
        ]

    def _of_edge(self) -> list[Check]:
        if not self._edge:
            return []
        settings = self._settings
        key = settings.edge_key.get_secret_value() if settings.edge_key else None
        host = f"[{settings.admin_host}]" if ":" in settings.admin_host else settings.admin_host
        admin = f"http://{host}:{settings.admin_port}"
        return EdgeChecks(self._clients.browser, settings.edge_url, key, admin, settings.viewer_dir).checks()

    async def _complete(self) -> CheckFinding:
        return ok(f"complete; bucket {self._settings.bucket!r}, keys begin with {self._settings.prefix}/")

    async def _mediamtx(self) -> CheckFinding:
        settings, longest = self._settings, [variant.target_duration for variant in self._survey.live]
        return await machine.mediamtx(
            settings.mediamtx_url or "", settings.hls_dir.absolute(), max(longest, default=None)
        )

    async def _playlists(self) -> CheckFinding:
        self._survey = await in_thread(folders.survey, self._settings.hls_dir)
        return folders.playlists(self._settings.hls_dir, self._survey)

    async def _writing(self) -> CheckFinding:
        return folders.writing(self._survey, time.time())

    async def _links(self) -> CheckFinding:
        state, hls = self._settings.state_dir, self._settings.hls_dir
        return await in_thread(folders.links, state, hls, self._survey.sample)

    async def _disk_space(self) -> CheckFinding:
        state, limit = self._settings.state_dir, self._settings.spool_limit
        return await in_thread(folders.disk_space, state, limit, self._survey.rate)

    async def _lease(self) -> CheckFinding:
        try:
            name = await in_thread(stored_name, self._settings.state_dir)
        except OSError as error:
            return skipped(f"the owner name in {self._settings.state_dir} cannot be read: {error.strerror}")
        return await self._bucket.lease(name, datetime.now(UTC), shared_settings(self._settings))

    async def _other(self) -> CheckFinding:
        return await machine.other_broadcaster(self._settings.leader_url)

    async def _uplink(self) -> CheckFinding:
        measured = await bucket.measure(self._clients.objects)
        return bucket.uplink_finding(measured, self._survey, self._bucket.put_seconds)

    async def _warm(self) -> CheckFinding:
        return bucket.warm_finding(self._survey)

    async def _read(self) -> CheckFinding:
        self._public.body = self._bucket.body
        return await self._public.object()


def check(  # noqa: PLR0913 - each is an option of the command
    *,
    fix: bool,
    as_json: bool,
    origin: str | None,
    public: str | None,
    uploads: str | None = None,
    edge: bool = False,
) -> int:
    """Run the checks; returns the exit status: 0, 1 after a failed check, 2 for a wrong setting.

    ``fix`` sets the bucket's CORS policy and lifecycle rules. ``origin`` is the origin of the page,
    ``public`` the public address of the service, which is then checked there, ``uploads`` the origin of the
    dashboard that uploads files. ``edge`` adds the checks of the edge tier. The output never shows a key or
    a signature.
    """
    try:
        settings = load()
    except ConfigError as error:
        finding = failed(
            str(error), "set it in the environment or in .env; .env.example describes each setting"
        )
        report = Report([Result("settings", "settings", finding, 0.0)])
        write(report.as_json() if as_json else report.results[0].text)
        return EXIT_CONFIG
    progress = ProgressLine(sys.stderr if as_json else sys.stdout)

    def on_result(result: Result) -> None:
        progress.clear()
        if not as_json:
            write(result.text)

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    page = origin or public or f"http://{host}:{settings.port}"

    async def run() -> Report:
        async with _clients(settings, page) as clients:
            checks = CheckList(settings, clients, public, uploads, edge=edge).checks(
                (origin or "*") if fix else None
            )
            budget = BUDGET * (1 + bool(public) + edge)
            return await examine(
                checks,
                budget=budget,
                on_start=lambda title: progress.show(f"...      {title}"),
                on_result=on_result,
            )

    try:
        report = asyncio.run(run())
    except KeyboardInterrupt:
        write("\nbroadcaster: interrupted", sys.stderr)
        return EXIT_FAILED
    write(report.as_json() if as_json else f"\n{report.summary()}")
    return 0 if report.is_good else EXIT_FAILED


@asynccontextmanager
async def _clients(settings: Settings, page: str) -> AsyncIterator[Clients]:
    target = bucket_of(settings, SIGNED_FOR)
    async with (
        open_browser(page) as browser,
        open_store(target) as store,
        open_settings(target) as client,
        probing(store, settings.prefix) as objects,
    ):
        yield Clients(browser, store, client, objects)
