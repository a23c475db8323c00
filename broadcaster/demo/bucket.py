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
PROBE_TIMEOUT = 1.0  # seconds for a request while the server starts
PROBE_KEY = ".ready"
SOCKETS = Path("/tmp")  # noqa: S108 - where SeaweedFS makes its sockets, also with another TMPDIR
CORS: CORSConfigurationTypeDef = {
    "CORSRules": [
        {
            "AllowedMethods": ["GET", "HEAD", "PUT"],  # the dashboard uploads files to signed URLs
            "AllowedOrigins": ["*"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "Content-Length", "Content-Range", "Date", "Age"],
            "MaxAgeSeconds": 3600,
        }
    ]
}


class SeaweedBucket:
    """A bucket of a SeaweedFS server with its data in ``folder``; runs while it is entered.

    The S3 service has the port ``port``, or a free port, also after a restart. Without ``anonymous``, only
    signed requests are answered. ``access_key_id`` and ``secret_access_key`` are the service's keys. With
    ``address``, one of this machine, viewers of its network can read the objects as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bucket: str = "live",
        port: int | None = None,
        anonymous: bool = True,
        address: str = HOST,
    ) -> None:
        self.bucket = bucket
        self.access_key_id = "demo" + secrets.token_hex(8)
        self.secret_access_key = secrets.token_hex(20)
        self.child: Child | None = None
        self._address = address
        self._bind = HOST if address == HOST else "0.0.0.0"  # noqa: S104 - both addresses; of the S3 service alone
        self._folder = folder.absolute()
        self._anonymous = anonymous
        given = {port, port + GRPC_OFFSET, port - GRPC_OFFSET} if port else set()
        inner = [free for free in free_ports(4 + len(given)) if free not in given]
        self._ports = (port or inner[3], *inner[:3])

    @property
    def endpoint_url(self) -> str:
        """The URL of the S3 service, without a slash at the end."""
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def public_url(self) -> str:
        """The URL of the objects for viewers, without a slash at the end."""
        return f"http://{self._address}:{self._ports[0]}/{self.bucket}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start the server with the data in the folder; returns when the bucket accepts writes.

        Raises DemoError if the program is missing, a port is taken, or the server dies or is not ready.
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
        """Kill the server; ``start`` then serves the same data on the same port.

        After SIGTERM it takes 15 s or more to end, and its store survives SIGKILL.
        """
        if self.child is not None:
            await self.child.kill()
            self.child = None
            self._remove_sockets()

    def _remove_sockets(self) -> None:
        for port in self._ports:
            for number in (port, port + GRPC_OFFSET):
                for path in SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    path.unlink(missing_ok=True)

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
            "-master.peers=none",  # looking for other masters can take 20 s after a crash
            "-master.telemetry=false",  # no reports to its developers
            f"-volume.port={volume}",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.ip.bind={self._bind}",
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
            # The first write succeeds only when all parts of the server are up.
            await client.put_object(Bucket=self.bucket, Key=PROBE_KEY, Body=b"ready")
            await client.delete_object(Bucket=self.bucket, Key=PROBE_KEY)
        except (BotoCoreError, ClientError, TimeoutError):
            return False
        return True
