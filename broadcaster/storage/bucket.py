"""Which bucket it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote

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
