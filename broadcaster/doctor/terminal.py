"""The command ``broadcaster check``: the list of checks in their order, and the output on the terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TextIO

from broadcaster.bucket import open_store
from broadcaster.bucket.lease import stored_name
from broadcaster.config import ENV_FILE, Settings, load
from broadcaster.doctor import bucket as uplink
from broadcaster.doctor import folders, machine, repair
from broadcaster.doctor import machine as owncast
from broadcaster.doctor import repair as uploads
from broadcaster.doctor.bucket import CLEANUP, BucketChecks, Means, from_storage, open_settings, probing
from broadcaster.doctor.folders import Survey, survey
from broadcaster.doctor.public import PublicChecks, TunnelChecks
from broadcaster.doctor.report import (
    Check,
    CheckFinding,
    Report,
    Result,
    examine,
    failed,
    in_thread,
    ok,
    skipped,
)
from broadcaster.errors import ConfigError, StorageError
from broadcaster.guest import open_browser
from broadcaster.printable import printable, write
from broadcaster.service import bucket_of

HANGS = "does the file system hang? A network file system does when its server is away"


class CheckList:
    """All checks for these settings, and the values that checks pass to later checks."""

    def __init__(
        self, settings: Settings, means: Means, tunnel: str | None, dashboard: str | None = None
    ) -> None:
        """``tunnel`` is the address at which viewers find the service, if that is to be asked.

        ``dashboard`` is the origin of the operator's, if files are to be uploaded there.
        """
        self._settings = settings
        self._means = means
        self._tunnel = tunnel
        self._dashboard = dashboard
        self._bucket = BucketChecks(means, settings.s3_endpoint, settings.prefix)
        self._public = PublicChecks(means)
        self._survey: Survey | None = None

    def checks(self, allowed: str | None) -> list[Check]:
        """All checks in order. ``allowed`` is the origin, or ``*``, of --fix; None without --fix."""
        repairs = self._repairs(allowed) if allowed else []
        here = [*self._of_settings(), *self._of_machine(), *self._of_folders(), *self._of_owncast()]
        there = [*self._of_bucket(), *repairs, *self._of_uploads(), *self._of_public()]
        return [*here, *there, *self._of_tunnel()]

    def _of_settings(self) -> list[Check]:
        checks = [
            Check("settings", "settings", self._complete),
            Check("names", "names of settings", partial(in_thread, machine.names)),
        ]
        if ENV_FILE.exists():
            checks.append(Check("env-file", "keys on disk", partial(in_thread, folders.env_file, ENV_FILE)))
        return checks

    def _of_machine(self) -> list[Check]:
        settings = self._settings
        public, operators = (settings.host, settings.port), (settings.admin_host, settings.admin_port)
        had = partial(machine.addresses, self._means.browser, public, operators)
        files = partial(in_thread, machine.open_files, settings.max_connections)
        return [
            Check("operator", "operator's listener", partial(in_thread, machine.operator, operators[0])),
            Check("addresses", "addresses", had),
            Check("page", "page", partial(in_thread, machine.page, settings.viewer_dir)),
            Check("open-files", "open files", files),
            Check("pictures", "pictures", partial(in_thread, machine.pictures, settings)),
        ]

    def _of_folders(self) -> list[Check]:
        hls, state = self._settings.hls_dir, self._settings.state_dir
        there = partial(in_thread, folders.hls_folder, hls)
        writable = partial(in_thread, folders.state_folder, state)
        return [
            Check("hls-folder", "HLS folder", there, on_timeout=HANGS),
            Check("hls-playlists", "HLS playlists", self._playlists, ("hls-folder",), on_timeout=HANGS),
            Check("hls-live", "stream being written", self._writing, ("hls-playlists",)),
            Check("state-folder", "state folder", writable, on_timeout=HANGS),
            Check("state-links", "links, not copies", self._links, ("hls-folder", "state-folder")),
            Check("state-room", "room for the spool", self._room, ("state-folder",)),
        ]

    def _of_owncast(self) -> list[Check]:
        url = self._settings.owncast_url
        return [Check("owncast", "Owncast", partial(owncast.answers, url))] if url else []

    def _of_bucket(self) -> list[Check]:
        bucket = self._bucket
        return [
            Check("endpoint", "endpoint", bucket.endpoint, ("settings",)),
            Check("clock", "clock", bucket.clock, ("endpoint",)),
            Check("access", "key and bucket", bucket.access, ("endpoint", "clock")),
            Check("owner", "one broadcaster", self._owner, ("access",)),
            Check("put", "PUT", bucket.put, ("access",)),
            Check("head", "HEAD", bucket.head, ("put",)),
            Check("get", "ranged GET", bucket.get, ("put",)),
            Check("uplink", "uplink", self._uplink, ("put",), deadline=uplink.PATIENCE + 1),
        ]

    def _repairs(self, allowed: str) -> list[Check]:
        settings, client = self._settings, self._means.settings
        days = repair.backstop_days(settings.retention, settings.window)
        cors = partial(repair.fix_cors, client, self._means.browser.origin, allowed)
        backstop = partial(repair.fix_lifecycle, client, settings.prefix, days)
        checks = [
            Check("fix-cors", "CORS policy", cors, ("access",)),
            Check("fix-lifecycle", "lifecycle rules", backstop, ("access",)),
        ]
        if self._dashboard:
            puts = partial(uploads.fix_uploads, client, self._dashboard)
            checks.append(Check("fix-uploads", "CORS policy for uploads", puts, ("access",)))
        return checks

    def _of_uploads(self) -> list[Check]:
        if not self._dashboard:
            return []
        settings = self._settings
        address = f"{settings.s3_endpoint}/{settings.bucket}/{settings.prefix}/files/a"
        may = partial(uploads.may_upload, self._means.browser, address, self._dashboard)
        return [Check("uploads", "uploads from the dashboard", may, ("endpoint",))]

    def _of_public(self) -> list[Check]:
        public = self._public
        # Signed addresses are the endpoint's own.
        needs = ("access",) if self._settings.urls == "presigned" else ()
        return [
            Check("public-address", "viewers' address", public.address, needs),
            Check("public-protocol", "viewers' protocol", public.protocol, ("public-address",)),
            Check("public-object", "viewers read", self._read, ("put", "public-address")),
            Check("public-headers", "headers", public.headers, ("public-object",)),
            Check("public-cors", "CORS", public.cors, ("public-object",)),
            Check("public-ranges", "ranges", public.ranges, ("public-object",)),
            Check("public-preflight", "CORS preflight", public.preflight, ("public-object",)),
            Check("public-404", "404 and then there", public.absent, ("public-object",)),
            Check("public-cache", "edge cache", public.edge, ("public-object",)),
            Check("delete", "DELETE", self._bucket.delete, ("access",), deadline=CLEANUP + 0.5, always=True),
        ]

    def _of_tunnel(self) -> list[Check]:
        if not self._tunnel:
            return []
        tunnel = TunnelChecks(self._means.browser, self._tunnel)
        return [
            Check("tunnel-page", "page through the tunnel", tunnel.page),
            Check("tunnel-playlist", "playlists through the tunnel", tunnel.playlist),
            Check("tunnel-closed", "operator's pages through the tunnel", tunnel.closed),
            Check("tunnel-address", "viewers' addresses through the tunnel", tunnel.addresses),
        ]

    async def _complete(self) -> CheckFinding:
        return ok(f"complete; bucket {self._settings.bucket!r}, keys begin with {self._settings.prefix}/")

    async def _playlists(self) -> CheckFinding:
        self._survey = await in_thread(survey, self._settings.hls_dir)
        return folders.playlists(self._settings.hls_dir, self._survey)

    async def _writing(self) -> CheckFinding:
        return folders.writing(self._survey or Survey(), time.time())

    async def _links(self) -> CheckFinding:
        sample = self._survey.sample if self._survey else None
        return await in_thread(folders.links, self._settings.state_dir, self._settings.hls_dir, sample)

    async def _room(self) -> CheckFinding:
        rate = self._survey.rate if self._survey else 0.0
        return await in_thread(folders.room, self._settings.state_dir, self._settings.spool_limit, rate)

    async def _owner(self) -> CheckFinding:
        try:
            name = await in_thread(stored_name, self._settings.state_dir)
        except OSError as error:
            return skipped(f"{self._settings.state_dir} does not tell our name: {error.strerror}")
        return await self._bucket.owner(name, datetime.now(UTC))

    async def _uplink(self) -> CheckFinding:
        try:
            measured = await uplink.measure(self._means.objects)
        except StorageError as error:
            return from_storage(error)
        return uplink.judge(measured, self._survey, self._bucket.put_seconds)

    async def _read(self) -> CheckFinding:
        self._public.body = self._bucket.body
        return await self._public.object()


EXIT_FAILED, EXIT_CONFIG = 1, 2
BUDGET = 10.0  # seconds for all checks; what the start, the cleaning up and the end take comes on top
SIGNED_FOR = timedelta(minutes=10)
CLEAR_LINE = "\r\x1b[2K"


class _CheckProgress:
    """Shows the current check on a terminal, and each result."""

    def __init__(self, output: TextIO, *, results: bool) -> None:
        self._output = output
        self._results = results
        self._clear = CLEAR_LINE if output.isatty() else ""

    def start(self, title: str) -> None:
        if self._clear:
            self._output.write(f"{self._clear}...      {printable(title)}")
            self._output.flush()

    def result(self, result: Result) -> None:
        self._output.write(self._clear)
        if self._results:
            write(result.text, self._output)
        self._output.flush()


def check(
    *, fix: bool, as_json: bool, origin: str | None, public: str | None, uploads: str | None = None
) -> int:
    """Check everything that ``run`` needs; returns the exit status: 0, 1 when something failed, 2 as ``run``.

    ``fix`` sets the bucket's CORS policy and lifecycle rules; ``origin`` is where the page is, and ``public``
    where the world finds the service, which is asked there then; ``uploads`` is where the operator opens the
    dashboard to upload files; all as scheme://host. Output and errors never show a key or a signature.
    """
    try:
        settings = load()
    except ConfigError as error:
        finding = failed(
            str(error), "set it in the environment or in .env; .env.example says what each means"
        )
        report = Report([Result("settings", "settings", finding, 0.0)])
        write(report.as_json() if as_json else report.results[0].text)
        return EXIT_CONFIG
    progress = _CheckProgress(sys.stderr if as_json else sys.stdout, results=not as_json)
    try:
        report = asyncio.run(
            _examine(settings, progress, fix=fix, origin=origin, public=public, uploads=uploads)
        )
    except KeyboardInterrupt:
        write("\nbroadcaster: interrupted", sys.stderr)
        return EXIT_FAILED
    write(report.as_json() if as_json else f"\n{report.summary()}")
    return 0 if report.is_good else EXIT_FAILED


async def _examine(  # noqa: PLR0913 - what can be asked for
    settings: Settings,
    progress: _CheckProgress,
    *,
    fix: bool,
    origin: str | None,
    public: str | None,
    uploads: str | None,
) -> Report:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    page = origin or public or f"http://{host}:{settings.port}"
    bucket = bucket_of(settings, SIGNED_FOR)
    async with (
        open_browser(page) as browser,
        open_store(bucket) as store,
        open_settings(bucket) as client,
        probing(store, settings.prefix) as objects,
    ):
        plan = CheckList(settings, Means(browser, store, client, objects), public, uploads)
        checks = plan.checks((origin or "*") if fix else None)
        budget = 2 * BUDGET if public else BUDGET
        return await examine(checks, budget=budget, on_start=progress.start, on_result=progress.result)
