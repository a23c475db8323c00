"""What all clients of buckets share: a session that knows nothing but what it is given.

Which bucket it is.

Signs addresses of objects for a time that is given: at the same time, an object has the same address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

from aiobotocore.session import AioSession
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider
from botocore.credentials import Credentials
from botocore.loaders import Loader


class _Session(AioSession):
    """One without profiles, files and variables of AWS, which are of other programs, and may be torn."""

    @property
    def profile(self) -> None:
        """There is none."""

    @property
    def full_config(self) -> dict[str, Any]:
        """What no file says."""
        return {"profiles": {}}

    def get_scoped_config(self) -> dict[str, Any]:
        """What no profile says."""
        return {}


@cache
def session() -> AioSession:
    """One for all clients, which have keys of their own: it reads for 0.1 s what botocore knows of S3."""
    made = _Session()
    settings = made.get_component("config_store")
    for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        settings.set_config_provider(name, ConstantProvider(default))
    for name in ("s3", "proxies_config"):
        settings.set_config_provider(name, ConstantProvider(None))
    packaged = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    made.register_component("data_loader", packaged)
    return made


REGION = "auto"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bucket is and how to get in; ``public_url`` is where viewers read it, no slash at its end.

    Where ``signed_for`` is set, viewers get presigned URLs, which are valid for so long.
    """

    endpoint_url: str
    name: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    public_url: str | None
    signed_for: timedelta | None = None

    def address(self, key: str) -> str:
        """Where those who have the keys find the object."""
        return f"{self.endpoint_url}/{self.name}/{quote(key, safe='/~')}"


class Signer(S3SigV4QueryAuth):
    """What botocore does, which takes the present time; ``life`` is for how long an address is valid."""

    def __init__(self, bucket: Bucket, when: datetime, life: timedelta) -> None:
        keys = Credentials(bucket.access_key_id, bucket.secret_access_key)
        super().__init__(keys, "s3", REGION, int(life.total_seconds()))
        self._bucket = bucket
        self._when = when.astimezone(UTC).strftime(SIGV4_TIMESTAMP)

    def url(self, key: str) -> str:
        """Where the object can be read. Waits for nothing, and takes a tenth of a millisecond."""
        request = AWSRequest("GET", url=self._bucket.address(key))
        request.context["timestamp"] = self._when
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))  # type: ignore[attr-defined]
        return str(request.url)
