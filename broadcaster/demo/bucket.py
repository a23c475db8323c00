"""A SeaweedFS server on this machine, as an S3 bucket in place of Cloudflare R2."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from broadcaster.bucket.session import session
from broadcaster.demo.processes import GRPC_OFFSET, HOST, Child, free_ports, poll, require_free

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CORSConfigurationTypeDef

START_WITHIN = 60.0  # seconds; 3 is usual
PROBE_TIMEOUT = 1.0  # seconds for one request while it starts
PROBE_KEY = ".ready"
SOCKETS = Path("/tmp")  # noqa: S108 - where SeaweedFS puts its sockets, whatever TMPDIR says
CORS: CORSConfigurationTypeDef = {
    "CORSRules": [
        {
            "AllowedMethods": ["GET", "HEAD", "PUT"],  # the dashboard puts files, with signed addresses
            "AllowedOrigins": ["*"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "Content-Length", "Content-Range", "Date", "Age"],
            "MaxAgeSeconds": 3600,
        }
    ]
}


class SeaweedBucket:
    """One bucket of a SeaweedFS server that keeps everything under ``folder``.

    As an async context manager it starts on entry and is gone, its data excepted, on exit. The port of the
    S3 service is ``port``, or any free one, and stays the same over a restart. Without ``anonymous`` only
    signed requests are answered. ``access_key_id`` and ``secret_access_key`` are those of the service.
    """

    def __init__(
        self, folder: Path, *, bucket: str = "live", port: int | None = None, anonymous: bool = True
    ) -> None:
        self.bucket = bucket
        self.access_key_id = "demo" + secrets.token_hex(8)
        self.secret_access_key = secrets.token_hex(20)
        self.child: Child | None = None
        self._folder = folder.absolute()
        self._anonymous = anonymous
        given = {port, port + GRPC_OFFSET, port - GRPC_OFFSET} if port else set()
        inner = [one for one in free_ports(4 + len(given)) if one not in given]
        self._ports = (port or inner[3], *inner[:3])

    @property
    def endpoint_url(self) -> str:
        """Where the S3 service is, without a slash at the end."""
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def public_url(self) -> str:
        """Where viewers get the objects, without a slash at the end."""
        return f"{self.endpoint_url}/{self.bucket}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it, on what a predecessor left, and return once the bucket takes writes.

        Raises DemoError when the program is missing, a port is taken, or the server dies or is not ready.
        """
        for port in self._ports:
            require_free(port)
            require_free(port + GRPC_OFFSET)
        config = self._prepare()
        command = self._command(config)
        self.child = await Child.start(
            "SeaweedFS", command, self._folder / "weed.log", env={"TMPDIR": str(self._folder / "tmp")}
        )
        try:
            await self.child.until(self._set_up(), within=START_WITHIN)
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """End it at once, as a crash would; ``start`` then serves the same data on the same port.

        This is how it always ends: asked kindly it takes from 15 s to for ever, and its store does not mind.
        """
        if self.child is not None:
            await self.child.kill()
            self.child = None
            self._remove_sockets()

    def suspend(self) -> None:
        """Freeze it: connections are accepted by the kernel and nothing answers."""
        if self.child is not None:
            self.child.suspend()

    def resume(self) -> None:
        """Let it go on after ``suspend``."""
        if self.child is not None:
            self.child.resume()

    def _remove_sockets(self) -> None:
        for port in self._ports:
            for number in (port, port + GRPC_OFFSET):
                for left_over in SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    left_over.unlink(missing_ok=True)

    def _prepare(self) -> Path:
        for name in ("data", "master", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        service = {
            "name": "service",
            "credentials": [{"accessKey": self.access_key_id, "secretKey": self.secret_access_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        viewers = {"name": "anonymous", "actions": [f"Read:{self.bucket}"]}
        config = self._folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [service, viewers] if self._anonymous else [service]}))
        return config

    def _command(self, config: Path) -> list[str | Path]:
        s3, master, volume, filer = self._ports
        return [
            "weed",
            "server",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-dir={self._folder / 'data'}",
            f"-master.dir={self._folder / 'master'}",
            f"-master.port={master}",
            "-master.peers=none",  # no search for other masters, which can take 20 s after a crash
            "-master.telemetry=false",  # it would report to its makers
            f"-volume.port={volume}",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    async def _set_up(self) -> None:
        config = AioConfig(
            connect_timeout=PROBE_TIMEOUT,
            read_timeout=PROBE_TIMEOUT,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        )
        async with session().create_client(
            "s3",
            region_name="auto",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=config,
        ) as client:
            await poll(lambda: self._takes_writes(client))

    async def _takes_writes(self, client: S3Client) -> bool:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                await client.create_bucket(Bucket=self.bucket)
            await client.put_bucket_cors(Bucket=self.bucket, CORSConfiguration=CORS)
            # The first write makes the server lay out its store, which it can do only once all parts are up.
            await client.put_object(Bucket=self.bucket, Key=PROBE_KEY, Body=b"ready")
            await client.delete_object(Bucket=self.bucket, Key=PROBE_KEY)
        except (BotoCoreError, ClientError, TimeoutError):
            return False
        return True
