"""What all clients of buckets share."""

from __future__ import annotations

from functools import cache

from aiobotocore.session import AioSession, get_session


@cache
def session() -> AioSession:
    """One for all clients, which have keys of their own: it reads for 0.1 s what botocore knows of S3."""
    return get_session()
