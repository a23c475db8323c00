"""``broadcaster check`` as an operator runs it, and what may stand between viewers and the bucket."""

import asyncio
import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    ExitStack,
    asynccontextmanager,
    chdir,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import aiohttp
import pytest
from aiohttp import web

from broadcaster.cli import main
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import HOST, find_program
from broadcaster.doctor.bucket import ProbeObjects
from broadcaster.doctor.report import Check
from broadcaster.service.health import CheckFinding
from tests.support.waiting import PATIENCE

LIMITS = ("bucket.DEADLINE", "bucket.TIMEOUT", "bucket.CLEANUP", "bucket.PATIENCE", "terminal.BUDGET")
PACKETS = 3000  # of a segment of 2 seconds: 2.26 Mbit/s
SECRETS = ("AWS4-HMAC", "Signature=", "X-Amz-Signature", "Credential=")
PASSED_ON = {"origin", "range", "access-control-request-method", "access-control-request-headers"}
NOT_PASSED_BACK = {"content-length", "transfer-encoding", "connection", "date", "server"}


@dataclass(frozen=True)
class Examination:
    """What a run of the doctor came to."""

    status: int
    output: str
    checks: dict[str, dict[str, str]]  # by name; empty without --json

    def bad(self) -> dict[str, str]:
        """The verdicts of all checks that are not well."""
        return {
            name: check["verdict"]
            for name, check in self.checks.items()
            if check["verdict"] in ("failed", "warning")
        }

    def says(self, name: str, verdict: str, message: str, remedy: str) -> None:
        """Assert that a check ended so, for this reason and with this remedy."""
        found = self.checks[name]
        assert found["verdict"] == verdict, found
        assert message in found["message"], found
        assert remedy in found["remedy"], found


def settings_of(folder: Path, bucket: SeaweedBucket, **settings: str) -> dict[str, str]:
    """The environment for a bucket and the folders ``hls`` and ``state``, overruled by ``settings``."""
    return {
        "BROADCASTER_HLS_DIR": str(folder / "hls"),
        "BROADCASTER_STATE_DIR": str(folder / "state"),
        "R2_ENDPOINT_URL": bucket.endpoint_url,
        "R2_BUCKET": bucket.bucket,
        "R2_ACCESS_KEY_ID": bucket.access_key_id,
        "R2_SECRET_ACCESS_KEY": bucket.secret_access_key,
        "R2_PUBLIC_URL": bucket.public_url,
        "R2_PREFIX": "live",
        "BROADCASTER_PORT": "0",  # those of a service may be taken on this machine
        "BROADCASTER_ADMIN_PORT": "0",
        **settings,
    }


async def examine(
    folder: Path,
    settings: dict[str, str],
    *arguments: str,
    under: Sequence[str] | None = None,
    patient: bool = True,
) -> Examination:
    """Run it in ``folder``, and see that it shows no secret.

    It is a call in a thread, as a new Python takes a second to start, and a ``patient`` one: what a busy
    machine answers late is not a fault. With ``under`` it is a process of its own, run by that program.
    """
    if under is None:
        ran = asyncio.to_thread(_in_this_process, folder, settings, arguments, patient=patient)
    else:
        ran = _as_a_process(folder, settings, [*under, find_program("broadcaster"), "check", *arguments])
    async with asyncio.timeout(PATIENCE):
        status, output, errors = await ran
    text = output + errors
    for secret in (settings["R2_ACCESS_KEY_ID"], settings["R2_SECRET_ACCESS_KEY"], *SECRETS):
        assert secret not in text, text
    assert "Traceback" not in text, text
    assert errors == "", text
    report = json.loads(output)["checks"] if "--json" in arguments else []
    return Examination(status, text, {check["name"]: check for check in report})


@contextmanager
def _patience() -> Iterator[None]:
    """Inside, everything may take minutes that has seconds otherwise."""

    async def without_deadline(check: Check, _: float) -> CheckFinding:
        return await check.run()

    with ExitStack() as stack:
        for name in LIMITS:
            stack.enter_context(patch(f"broadcaster.doctor.{name}", PATIENCE))
        stack.enter_context(patch("broadcaster.doctor.report._run_within", without_deadline))
        stack.enter_context(patch.dict(ProbeObjects.put.__kwdefaults__, deadline=PATIENCE))
        yield


def _in_this_process(
    folder: Path, settings: dict[str, str], arguments: Sequence[str], *, patient: bool
) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with (
        _patience() if patient else nullcontext(),
        patch.dict(os.environ, settings),
        chdir(folder),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        status = main(["check", *arguments])
    return status, output.getvalue(), errors.getvalue()


async def _as_a_process(
    folder: Path, settings: dict[str, str], command: Sequence[str]
) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return process.returncode or 0, output.decode(), errors.decode()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(handler: Handler, **options: object) -> AsyncIterator[str]:
    """A web server that hands every request to ``handler``; gives its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0, **options)  # type: ignore[arg-type]
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if options.get('ssl_context') else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


Alter = Callable[[web.Request, web.Response], web.Response]


@asynccontextmanager
async def edge(bucket: SeaweedBucket, alter: Alter, **options: object) -> AsyncIterator[str]:
    """A proxy between viewers and the bucket, which changes each answer by ``alter``; gives its address."""
    async with aiohttp.ClientSession() as session:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            headers = {name: value for name, value in request.headers.items() if name.lower() in PASSED_ON}
            url = bucket.public_url + request.path
            async with session.request(request.method, url, headers=headers) as found:
                passed = [
                    (name, value)
                    for name, value in found.headers.items()
                    if name.lower() not in NOT_PASSED_BACK
                ]
                response = web.Response(status=found.status, body=await found.read())
                response.headers.clear()
                for name, value in passed:
                    response.headers.add(name, value)
            return alter(request, response)

        async with listening(pass_on, **options) as address:
            yield address


@contextmanager
def small_disk(folder: Path, size: str, *, read_only: bool = False) -> Iterator[Path]:
    """A file system of its own at ``folder``; skips the test where none can be mounted."""
    folder.mkdir()
    options = f"size={size}" + (",ro" if read_only else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
