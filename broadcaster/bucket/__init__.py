"""The bucket: an S3 client set up for live video on Cloudflare R2, with typed errors.

Every request is sent once. The callers retry, because botocore's retry modes do not cover what R2 answers
under load (429 TooManyRequests, ServiceUnavailable, 400 IncompleteBody).
"""

from broadcaster.bucket.client import (
    CACHE_CONTROL,
    ObjectStore,
    classify_error,
    content_type,
    open_store,
)
from broadcaster.bucket.session import Bucket

__all__ = [
    "CACHE_CONTROL",
    "Bucket",
    "ObjectStore",
    "classify_error",
    "content_type",
    "open_store",
]
