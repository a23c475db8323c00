"""All exceptions of the project, as one tree.

::

    BroadcasterError            500
    ├── CatalogError            500  the catalog cannot be used; the process ends with status 2
    ├── ConfigError             500  a setting is missing or wrong; the process ends with status 2
    ├── DemoError               500  a part of the demo cannot be started or has died
    ├── ExportError             500  a recording cannot be made one file
    ├── AdminError             500  the running service does not do what the command line asked of it
    ├── NotPossible             409  what was asked for cannot be done as things are
    │   └── TooMany             429  there are as many of it as there may be
    ├── OriginError             502  the origin of a relay gives no answer, or none that can be read
    ├── OwncastError            502  Owncast does not say how it is: no answer, or one that cannot be read
    ├── PictureError            500  no picture can be made of something
    ├── PlaylistError           502  what should be a playlist is not one, or not one we can carry
    └── StorageError            503  the bucket did not do what was asked
        ├── StorageUnavailable  503  a passing fault: try again soon
        │   └── ObjectsNotDeleted  503  some objects of a request
        └── StorageRefused      503  a permanent fault (key, bucket, rights): someone must act
            └── ObjectNotFound  404  there is no such object

Each class has the HTTP status for answers to requests.
"""

from __future__ import annotations

import errno
from typing import ClassVar

# There is no such file, or it is none.
FINAL = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
        *(errno.EINVAL, errno.EILSEQ),  # the file system has no such names
    }
)


def is_final(error: OSError) -> bool:
    """Whether it says that there is no such file. All else is a fault of the machine, which may pass."""
    return error.errno in FINAL


class BroadcasterError(Exception):
    """The root: everything this service raises on purpose."""

    status: ClassVar[int] = 500


class ConfigError(BroadcasterError):
    """A setting is missing or wrong. The message is one line and names the variable."""


class DemoError(BroadcasterError):
    """A part of the demo cannot be started or has died. The first line says all; a log's tail may follow."""


class CatalogError(BroadcasterError):
    """The journal in the state folder is foreign, broken, too new or in use. The message says what to do."""


class ExportError(BroadcasterError):
    """A recording cannot be made one file. The message is one line and says what to do, if that is known."""


class AdminError(BroadcasterError):
    """The running service does not do what the command line asked of it. The message is one line."""


class NotPossible(BroadcasterError):  # noqa: N818 - reads as the answer it is
    """What was asked for cannot be done as things are. The message is one line and says why."""

    status: ClassVar[int] = 409


class TooMany(NotPossible):
    """There are as many of it as there may be."""

    status: ClassVar[int] = 429


class OriginError(BroadcasterError):
    """A relay's origin gives no answer, or none that can be read. The message is one line and says why."""

    status: ClassVar[int] = 502


class OwncastError(BroadcasterError):
    """Owncast gives no answer, or none that can be read. The message is one line and says why."""

    status: ClassVar[int] = 502


class PictureError(BroadcasterError):
    """No picture can be made of something. The message is one line and says why."""


class PlaylistError(BroadcasterError):
    """Text that should be a playlist is not one, or uses what we do not carry."""

    status: ClassVar[int] = 502


class StorageError(BroadcasterError):
    """The bucket did not do what was asked. Never carries a key or a signature."""

    status: ClassVar[int] = 503


class StorageUnavailable(StorageError):  # noqa: N818 - reads as the state it reports
    """A passing fault: refused connection, timeout, throttling, a 5xx."""


class ObjectsNotDeleted(StorageUnavailable):
    """Some of the objects of one request were not deleted: ``keys``. All others were."""

    def __init__(self, message: str, keys: frozenset[str]) -> None:
        super().__init__(message)
        self.keys = keys


class StorageRefused(StorageError):  # noqa: N818 - reads as the state it reports
    """A permanent fault: wrong key, missing bucket, missing rights. Trying again soon is of no use."""


class ObjectNotFound(StorageRefused):
    """There is no such object, or no longer."""

    status: ClassVar[int] = 404


def first_error(error: BaseException) -> BaseException:
    """The first exception of nested groups; the exception itself if it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
