"""The bucket: an S3 client set up for live video on Cloudflare R2, with typed failures.

Every call is made once: retrying is the pipeline's business, because botocore's own modes leave out what
R2 answers under load (429 TooManyRequests, ServiceUnavailable, 400 IncompleteBody).
"""

from broadcaster.bucket.client import CACHE_CONTROL, CONTENT_TYPES, ObjectStore, content_type, open_store
from broadcaster.bucket.errors import REMEDIES, classify_error
from broadcaster.bucket.session import Bucket

__all__ = [
    "CACHE_CONTROL",
    "CONTENT_TYPES",
    "REMEDIES",
    "Bucket",
    "ObjectStore",
    "classify_error",
    "content_type",
    "open_store",
]
