"""What the S3 client raises, in our words: what it says itself may carry the key or the signature."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from broadcaster.errors import StorageError, StorageRefused, StorageUnavailable

REMEDIES = {
    "InvalidAccessKeyId": "the access key is not known; check R2_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not fit the access key; check R2_SECRET_ACCESS_KEY",
    "Unauthorized": "the access key is not accepted; check R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY",
    "AccessDenied": "the access key may not use this bucket; check the token's permissions and R2_BUCKET",
    "NoSuchBucket": "there is no such bucket; check R2_BUCKET",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it by NTP (timedatectl set-ntp true)",
}
PERMANENT_STATUS = {401, 403}


def typed(where: str, error: Exception, deadline: float) -> StorageError:
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
    return StorageUnavailable(f"{where}: cannot be reached ({type(error).__name__})")


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
