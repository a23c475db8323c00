"""A bucket with the lease alone, and the clocks of those who want it."""

from datetime import timedelta
from typing import cast

from broadcaster.bucket import ObjectStore
from broadcaster.bucket.lease import LIVE_TTL, LeaseRecord, PrefixLease
from broadcaster.errors import ObjectNotFound, StorageUnavailable
from tests.support.fakes.pipeline_parts import START

KEY = "live/owner.json"


class LeaseBucket:
    """One object with S3's conditional writes, and the clocks of its writers.

    The next write takes effect and raises ``fault``; with ``refuses``, it is answered as if it was too late.
    """

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.writes = self.looks = 0
        self.seconds = 0.0
        self.ttl = LIVE_TTL
        self.step = 0.5
        self.fault: StorageUnavailable | None = None
        self.refuses = False

    async def etag(self, key: str, *, deadline: float) -> str | None:
        assert (key, deadline > 0) == (KEY, True)
        self.looks += 1
        return f"tag {self.writes}" if self.body else None

    async def get(self, key: str, *, deadline: float) -> bytes:
        assert (key, deadline > 0) == (KEY, True)
        if self.body is None:
            raise ObjectNotFound("it is gone")
        return self.body

    async def replace(  # noqa: PLR0913 - the properties of an object
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        is_fenced: bool,
    ) -> str | None:
        assert (key, deadline > 0, max_age, is_fenced) == (KEY, True, 1, False)
        refuses, self.refuses = self.refuses, False
        if refuses or etag != (f"tag {self.writes}" if self.body else None):
            return None
        self.body = body
        self.writes += 1
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        return f"tag {self.writes}"

    @property
    def record(self) -> LeaseRecord:
        assert self.body
        return LeaseRecord.parse(self.body)

    def owner(self, name: str, *, standby: bool = False) -> PrefixLease:
        return PrefixLease(
            cast("ObjectStore", self),
            "live",
            name,
            lambda: START + timedelta(seconds=self.seconds),
            lambda: self.seconds,
            ttl=lambda: self.ttl,
            standby=standby,
        )

    async def goes_by(self, seconds: float, *owners: PrefixLease) -> None:
        """So much time, in which each of them does what is due."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds += self.step
            for owner in owners:
                await owner.renew()
