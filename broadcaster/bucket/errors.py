"""Converts exceptions of the S3 client to StorageError, without their texts, which may contain keys."""

from __future__ import annotations

import logging
import traceback
import zlib
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from broadcaster.aio import LogLimiter
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
_tracebacks = LogLimiter()  # by kind of exception
# Caused by the network or by an invalid answer; any other exception is a bug of this program.
NETWORK_ERRORS = (
    aiohttp.ClientError,
    BotoCoreError,
    EOFError,
    OSError,
    ResponseParserError,
    zlib.error,
)


def classify_error(where: str, error: Exception, deadline: float) -> StorageError:
    """The StorageError for an exception of the operation ``where``; ``deadline`` is in seconds."""
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
    kind = type(error).__name__
    if isinstance(error, NETWORK_ERRORS):
        return f"cannot be reached ({kind})"
    if isinstance(error, LookupError | ValueError):  # a field of the S3 answer is missing
        return f"the answer is not from a bucket ({kind})"
    if _tracebacks.allows(kind):
        # The traceback without the message, which may quote the request.
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s: %s in our own code; please report this\n%s", where, kind, trace)
    return f"our own code fails ({kind}); please report this"


def refusal(operation: str, status: int, answer: str) -> ClientError:
    """The exception of the S3 client for an HTTP answer."""
    error = {"Code": code_in(answer) or str(status)}
    response: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


def code_in(answer: str) -> str:
    """The S3 error code in the body of an answer, empty where there is none."""
    return answer.partition("<Code>")[2].partition("</Code>")[0][:40]


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer, 0 when there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
