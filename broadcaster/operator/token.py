"""The word by which the service knows its operator: who can read the state folder has it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from broadcaster.descriptors import READ
from broadcaster.errors import ConfigError
from broadcaster.own_files import LARGEST, OTHERS, read_own, write_own

FILE = "operator-token"


def token_file(folder: Path) -> Path:
    """Where the token is."""
    return folder / FILE


def own_token(folder: Path) -> str:
    """The token of the service with this state folder, made at its first start; raises OSError."""
    path = token_file(folder)
    token = read_own(path, OTHERS)
    if not token:  # or it is another user's, or others may know it
        token = secrets.token_urlsafe(32)
        write_own(path, token)
    return token


def stored_token(folder: Path) -> str:
    """The same, for who asks the service; raises ConfigError."""
    try:
        descriptor = os.open(token_file(folder), READ)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file")
            return os.read(descriptor, LARGEST).decode(errors="replace").strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"BROADCASTER_STATE_DIR: {token_file(folder)}: {error.strerror}; run this as the service's user,"
            " after its first start"
        ) from None
