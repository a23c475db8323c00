"""The word by which the service knows its operator: who can read the state folder has it."""

from __future__ import annotations

import secrets
from pathlib import Path

from broadcaster.errors import ConfigError

FILE = "operator-token"


def token_file(folder: Path) -> Path:
    """Where the token is."""
    return folder / FILE


def own_token(folder: Path) -> str:
    """The token of the service with this state folder, made at its first start; raises OSError."""
    path = token_file(folder)
    if not path.exists() or not path.read_text().strip():
        new = path.with_suffix(".new")  # a full disk, or a killed process, leaves no half of one
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32))
        new.replace(path)
    return path.read_text().strip()


def stored_token(folder: Path) -> str:
    """The same, for who asks the service; raises ConfigError."""
    try:
        return token_file(folder).read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"BROADCASTER_STATE_DIR: {token_file(folder)}: {error.strerror}; run this as the service's user,"
            " after its first start"
        ) from None
