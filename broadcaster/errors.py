"""All exceptions of the project. ``status`` is the HTTP status of an answer with the error."""

from __future__ import annotations

import errno
from typing import ClassVar, NamedTuple

# The file does not exist, or is no file.
FINAL = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
        *(errno.EINVAL, errno.EILSEQ),  # the file system has no such names
    }
)


def is_final(error: OSError) -> bool:
    """Whether the file does not exist. All other errors are faults of the machine, which may be transient."""
    return error.errno in FINAL


class Problem(NamedTuple):
    """What is wrong, and what to do; as a text, both."""

    cause: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause


class BroadcasterError(Exception):
    """The root of all errors that are raised on purpose."""

    status: ClassVar[int] = 500


class ConfigError(BroadcasterError):
    """A setting is missing or wrong. The message is one line and names the variable."""


class DemoError(BroadcasterError):
    """A part of the demo cannot be started or has died. The first line says all; a log's tail may follow."""


class CatalogError(BroadcasterError):
    """The catalog is foreign, broken, too new or in use. The message says what to do."""


class LeadLost(BroadcasterError):  # noqa: N818 - reads as what happened
    """Another broadcaster leads: this process has to end, and its next one stands by."""


class EdgeError(BroadcasterError):
    """The edge's Worker gives no answer, or none that can be read. The message is one line and says why."""

    status: ClassVar[int] = 502


class ExportError(BroadcasterError):
    """A recording cannot be exported. The message is one line and says what to do, if that is known."""


class AdminError(BroadcasterError):
    """The running service does not do what the command line asked of it. The message is one line."""


class NotPossible(BroadcasterError):  # noqa: N818 - reads as an answer
    """The present state does not allow the request. The message is one line and says why."""

    status: ClassVar[int] = 409


class TooMany(NotPossible):
    """A limit is reached."""

    status: ClassVar[int] = 429


class OriginError(BroadcasterError):
    """A relay's origin does not answer, or not readably. The message is one line and says why."""

    status: ClassVar[int] = 502


class EncoderError(BroadcasterError):
    """Owncast or MediaMTX does not answer, or not readably. The message is one line and says why."""

    status: ClassVar[int] = 502


class PictureError(BroadcasterError):
    """A picture cannot be made. The message is one line and says why."""


class PlaylistError(BroadcasterError):
    """A text is not a playlist, or not a supported playlist."""

    status: ClassVar[int] = 502


class StorageError(BroadcasterError):
    """A request to the bucket failed. The message never has a key or a signature; the remedy ends it."""

    status: ClassVar[int] = 503

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.problem = Problem(cause, remedy)
        super().__init__(str(self.problem))


class StorageUnavailable(StorageError):  # noqa: N818 - reads as a state
    """A transient fault: refused connection, timeout, throttling, a 5xx."""


class ObjectsNotDeleted(StorageUnavailable):
    """The objects ``keys`` of a request were not deleted; all other objects were."""

    def __init__(self, message: str, keys: frozenset[str]) -> None:
        super().__init__(message)
        self.keys = keys


class StorageRefused(StorageError):  # noqa: N818 - reads as a state
    """A permanent fault: wrong key, missing bucket, missing rights."""


class NotLeading(StorageError):  # noqa: N818 - reads as a state
    """Another broadcaster leads: this one may not change what is in the bucket."""

    status: ClassVar[int] = 409


class ObjectNotFound(StorageRefused):
    """There is no such object."""

    status: ClassVar[int] = 404


def first_error(error: BaseException) -> BaseException:
    """The first exception of nested groups; the exception itself if it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
