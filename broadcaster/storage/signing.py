"""Signs addresses of objects for a time that is given: at the same time, an object has the same address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broadcaster.storage.bucket import REGION, Bucket


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
