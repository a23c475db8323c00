"""What all S3 clients share: the botocore session, the description of a bucket, and the signer of URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, ClientCreatorContext
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider
from botocore.credentials import Credentials
from botocore.loaders import Loader

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


class _Session(AioSession):
    """A session that ignores AWS profiles, files and variables: they belong to other programs."""

    @property
    def profile(self) -> None:
        """Always None."""

    @property
    def full_config(self) -> dict[str, Any]:
        """The empty configuration."""
        return {"profiles": {}}

    def get_scoped_config(self) -> dict[str, Any]:
        """The empty configuration of a profile."""
        return {}

    def create_client(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """As botocore does. A client without TLS does not read all certificates, which takes 60 ms."""
        if not options["endpoint_url"].startswith("https:"):
            options["verify"] = False
        return super().create_client(*arguments, **options)


class _Models(Loader):
    """The service models in botocore's package. Only the name of S3 is known: to list all takes 30 ms."""

    def __init__(self) -> None:
        super().__init__(extra_search_paths=[self.BUILTIN_DATA_PATH], include_default_search_paths=False)

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - of each type
        return ["s3"]


@cache
def session() -> AioSession:
    """The session of all clients. It loads botocore's S3 model once, which takes 0.1 s."""
    made = _Session()
    settings = made.get_component("config_store")
    for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        settings.set_config_provider(name, ConstantProvider(default))
    for name in ("s3", "proxies_config"):
        settings.set_config_provider(name, ConstantProvider(None))
    made.register_component("data_loader", _Models())
    return made


def create_client(bucket: Bucket, config: AioConfig) -> ClientCreatorContext[S3Client]:
    """An S3 client with the keys of the bucket, as a context."""
    return session().create_client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=config,
    )


REGION = "auto"


@dataclass(frozen=True, slots=True)
class Bucket:
    """The address and the keys of a bucket. ``public_url`` is its base URL, without a final slash.

    Where ``signed_for`` is set, viewers get presigned URLs that are valid for this long.
    """

    endpoint_url: str
    name: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    public_url: str | None
    signed_for: timedelta | None = None

    def address(self, key: str) -> str:
        """The URL of the object for a client with the keys."""
        return f"{self.endpoint_url}/{self.name}/{quote(key, safe='/~')}"


class Signer(S3SigV4QueryAuth):
    """Presigns URLs as botocore does, but for a given time, so that the same time gives the same URL.

    ``life`` is how long a URL is valid.
    """

    def __init__(self, bucket: Bucket, when: datetime, life: timedelta) -> None:
        keys = Credentials(bucket.access_key_id, bucket.secret_access_key)
        super().__init__(keys, "s3", REGION, int(life.total_seconds()))
        self._bucket = bucket
        self._when = when.astimezone(UTC).strftime(SIGV4_TIMESTAMP)

    def url(self, key: str) -> str:
        """The presigned URL of an object. Takes 0.1 ms and does no I/O."""
        request = AWSRequest("GET", url=self._bucket.address(key))
        request.context["timestamp"] = self._when
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))  # type: ignore[attr-defined]
        return str(request.url)
