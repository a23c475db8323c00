"""What the S3 client raises, in our words: what it says itself may carry the key or the signature."""

from __future__ import annotations

import logging
import time
import traceback
import zlib
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from broadcaster.errors import StorageError, StorageRefused, StorageUnavailable

logger = logging.getLogger(__name__)

REMEDIES = {
    "InvalidAccessKeyId": "the access key is not known; check R2_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not fit the access key; check R2_SECRET_ACCESS_KEY",
    "Unauthorized": "the access key is not accepted; check R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY",
    "AccessDenied": "the access key may not use this bucket; check the token's permissions and R2_BUCKET",
    "NoSuchBucket": "there is no such bucket; check R2_BUCKET",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it by NTP (timedatectl set-ntp true)",
}
PERMANENT_STATUS = {401, 403}
LOG_EVERY = 60.0  # seconds between two tracebacks of one kind
_logged: dict[str, float] = {}  # by kind, when (monotonic)
# What the network, or an answer that is none of S3's, is to blame for; all else is our own fault.
OF_THE_WAY = (
    aiohttp.ClientError,
    BotoCoreError,
    EOFError,
    OSError,
    ResponseParserError,
    zlib.error,
)


def classify_error(where: str, error: Exception, deadline: float) -> StorageError:
    """The failure of what was tried at ``where``; ``deadline`` in seconds."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = status_of(error)
        if code in REMEDIES or status in PERMANENT_STATUS:
            return StorageRefused(f"{where}: {code}: {REMEDIES.get(code, 'check the R2_ settings')}")
        return StorageUnavailable(f"{where}: {code} (HTTP {status})")
    if isinstance(error, ParamValidationError):
        return StorageRefused(f"{where}: the request is not valid; check R2_BUCKET and R2_PREFIX")
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{where}: no answer within {deadline:.0f} s")
    return StorageUnavailable(f"{where}: {_why(where, error)}")


def _why(where: str, error: Exception) -> str:
    kind, now = type(error).__name__, time.monotonic()
    if isinstance(error, OF_THE_WAY):
        return f"cannot be reached ({kind})"
    if isinstance(error, LookupError | ValueError):  # it lacks what S3 answers
        return f"the answer is none of a bucket ({kind})"
    if now - _logged.get(kind, -LOG_EVERY) >= LOG_EVERY:
        _logged[kind] = now
        # Where it was raised, without what it says: that may quote the request.
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s: %s in our own code; please report this\n%s", where, kind, trace)
    return f"our own code fails ({kind}); please report this"


def refusal(operation: str, status: int, answer: str) -> ClientError:
    """What the S3 client raises at such an answer."""
    error = {"Code": code_in(answer) or str(status)}
    told: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, operation)


def code_in(answer: str) -> str:
    """What S3 calls the error that an answer tells of; empty where it tells of none."""
    return answer.partition("<Code>")[2].partition("</Code>")[0][:40]


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer, 0 when there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
