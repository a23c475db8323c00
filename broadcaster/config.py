"""The settings: the only reader of the environment, of ``.env`` and of systemd's credentials."""

from __future__ import annotations

import codecs
import os
import stat
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from broadcaster.errors import ConfigError
from broadcaster.hls.manifest import MIN_WINDOW_SEGMENTS
from broadcaster.misspelt import misspelt
from broadcaster.setting_complaints import complaint
from broadcaster.setting_types import (
    MAX_SPOOL,
    Folder,
    HttpUrl,
    Prefix,
    Seconds,
    SocketUrl,
    SpoolLimit,
    Window,
    kept,
)
from broadcaster.threads import MAX_LOOK, OwnThread, real_path

MAX_WINDOW = timedelta(days=7)
LONGEST_SIGNATURE = timedelta(days=7)  # of a presigned URL: what SigV4 allows, and R2
MAX_CLIENTS = 1_000_000
MAX_PREFIX = 200  # bytes: with run, variant and name a key has 1024 at most
ENV_FILE = Path(".env")
R2_HOST = ".r2.cloudflarestorage.com"
VIEWER = Path(__file__).resolve().parent.parent / "viewer"
VIEWER_DIR, DASHBOARD_DIR = VIEWER / "dist", VIEWER / "dashboard"


class Settings(BaseSettings):
    """Every setting, by the name of its variable. Secrets are never shown."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )

    hls_dir: Folder = Field(alias="BROADCASTER_HLS_DIR")
    state_dir: Folder = Field(default=Path("state"), alias="BROADCASTER_STATE_DIR")
    host: str = Field(default="127.0.0.1", alias="BROADCASTER_HOST")
    port: int = Field(default=3000, ge=0, le=65535, alias="BROADCASTER_PORT")
    admin_host: str = Field(default="127.0.0.1", alias="BROADCASTER_ADMIN_HOST")
    admin_port: int = Field(default=3001, ge=0, le=65535, alias="BROADCASTER_ADMIN_PORT")
    admin_names: str = Field(default="", pattern=r"^[A-Za-z0-9._:, -]*$", alias="BROADCASTER_ADMIN_NAMES")
    window_segments: int = Field(
        default=10,
        ge=MIN_WINDOW_SEGMENTS,
        le=MAX_WINDOW // timedelta(seconds=1),
        alias="BROADCASTER_WINDOW_SEGMENTS",
    )
    window: Window = Field(
        default=timedelta(), ge=timedelta(), le=MAX_WINDOW, alias="BROADCASTER_WINDOW_SECONDS"
    )
    max_waiters: int = Field(default=5000, ge=0, le=MAX_CLIENTS, alias="BROADCASTER_MAX_WAITERS")
    max_connections: int = Field(default=10_000, ge=1, le=MAX_CLIENTS, alias="BROADCASTER_MAX_CONNECTIONS")
    target_duration: int | None = Field(default=None, ge=1, le=60, alias="BROADCASTER_TARGET_DURATION")
    end_grace: Seconds = Field(default=300, alias="BROADCASTER_END_GRACE_SECONDS")
    owncast_url: HttpUrl | None = Field(default=None, alias="BROADCASTER_OWNCAST_URL")
    disconnect_grace: Seconds | None = Field(default=None, alias="BROADCASTER_DISCONNECT_GRACE_SECONDS")
    drain: Seconds = Field(default=10, alias="BROADCASTER_DRAIN_SECONDS")
    spool_limit: SpoolLimit = Field(default=ByteSize(20 * 2**30), alias="BROADCASTER_SPOOL_LIMIT")
    retention: Annotated[timedelta | None, kept("window", "seconds")] = Field(
        default=timedelta(), alias="BROADCASTER_RETENTION"
    )
    retention_max_minutes: int = Field(default=60, ge=0, le=1440, alias="BROADCASTER_RETENTION_MAX_MINUTES")
    retention_max_size: Annotated[ByteSize, Field(ge=0, le=MAX_SPOOL)] = Field(
        default=ByteSize(5 * 2**30), alias="BROADCASTER_RETENTION_MAX_SIZE"
    )
    recordings: Annotated[timedelta | None, kept("off", "days")] = Field(
        default=timedelta(), alias="BROADCASTER_RECORDINGS"
    )
    pictures: str = Field(default="ffmpeg", alias="BROADCASTER_PICTURES")
    viewer_dir: Folder = Field(default=VIEWER_DIR, alias="BROADCASTER_VIEWER_DIR")
    dashboard_dir: Folder = Field(default=DASHBOARD_DIR, alias="BROADCASTER_DASHBOARD_DIR")
    public_dashboard: bool = Field(default=False, alias="BROADCASTER_PUBLIC_DASHBOARD")
    egress_price: float = Field(
        default=0.09, ge=0, le=1000, allow_inf_nan=False, alias="BROADCASTER_EGRESS_PRICE"
    )
    trusted_header: Literal["cf-connecting-ip", "x-forwarded-for", "none"] | None = Field(
        default=None, alias="BROADCASTER_TRUSTED_HEADER"
    )
    viewer_clips: bool = Field(default=False, alias="BROADCASTER_VIEWER_CLIPS")
    viewer_mode: Literal["low-delay", "sharing"] = Field(default="low-delay", alias="BROADCASTER_VIEWER_MODE")
    tracker: bool = Field(default=True, alias="BROADCASTER_TRACKER")
    tracker_url: SocketUrl | None = Field(default=None, alias="BROADCASTER_TRACKER_URL")
    log_level: str = Field(
        default="info", pattern="(?i)^(debug|info|warning|error)$", alias="BROADCASTER_LOG_LEVEL"
    )

    account_id: str | None = Field(default=None, pattern="^[0-9a-f]{32}$", alias="R2_ACCOUNT_ID")
    jurisdiction: Literal["eu", "fedramp"] | None = Field(default=None, alias="R2_JURISDICTION")
    endpoint_url: HttpUrl | None = Field(default=None, alias="R2_ENDPOINT_URL")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", alias="R2_BUCKET")
    access_key_id: SecretStr = Field(min_length=1, alias="R2_ACCESS_KEY_ID")
    secret_access_key: SecretStr = Field(min_length=1, alias="R2_SECRET_ACCESS_KEY")
    public_url: HttpUrl | None = Field(default=None, alias="R2_PUBLIC_URL")
    prefix: Prefix = Field(default="live", max_length=MAX_PREFIX, alias="R2_PREFIX")
    urls: Literal["public", "presigned"] = Field(default="public", alias="BROADCASTER_URLS")
    mirror: bool = Field(default=False, alias="BROADCASTER_MIRROR")

    @model_validator(mode="after")
    def _need_endpoint(self) -> Settings:
        if not self.account_id and not self.endpoint_url:
            raise ValueError("R2_ACCOUNT_ID is missing (or R2_ENDPOINT_URL, for another S3 server)")
        return self

    @model_validator(mode="after")
    def _need_the_endpoint_alone(self) -> Settings:
        """The client adds the bucket's name: with it in the endpoint, viewers ask for other keys."""
        parts = urlsplit(self.endpoint_url or "")
        host, path = parts.hostname or "", parts.path.strip("/")
        is_r2 = host.endswith(R2_HOST)
        if path.rpartition("/")[2] == self.bucket or (is_r2 and path):
            raise ValueError(f"R2_ENDPOINT_URL must end before /{path}: only R2_BUCKET names the bucket")
        if host.startswith(f"{self.bucket}.") and (is_r2 or host.endswith(".amazonaws.com")):
            raise ValueError(f"R2_ENDPOINT_URL must not begin with {self.bucket}: only R2_BUCKET names it")
        return self

    @model_validator(mode="after")
    def _need_a_folder(self) -> Settings:
        """One that is not there may come with the stream; a file stays a file."""
        with OwnThread("HLS folder") as thread, suppress(OSError, TimeoutError):
            status = thread.submit(self.hls_dir.stat).result(MAX_LOOK)
            if not stat.S_ISDIR(status.st_mode):
                raise ValueError(f"BROADCASTER_HLS_DIR is no folder: {self.hls_dir} is a file")
        return self

    @model_validator(mode="after")
    def _need_addresses_that_last(self) -> Settings:
        if self.urls == "public" and not self.public_url:
            raise ValueError("R2_PUBLIC_URL is missing (or BROADCASTER_URLS=presigned, for a private bucket)")
        window = max(self.window, self.window_segments * timedelta(seconds=self.target_duration or 1))
        # A segment is listed for a window, and stays readable for another one (§6.2.2).
        if self.urls == "presigned" and 2 * window > LONGEST_SIGNATURE:
            most = LONGEST_SIGNATURE // 2 // timedelta(seconds=1)
            raise ValueError(
                f"BROADCASTER_WINDOW_SECONDS: a window of more than {most} s outlives signed URLs"
                " (BROADCASTER_URLS=presigned)"
            )
        return self

    @model_validator(mode="after")
    def _need_two_folders(self) -> Settings:
        """Owncast empties the one at its start; what it does not know, the spool removes from the other."""
        hls, state = (real_path(folder) for folder in (self.hls_dir, self.state_dir))
        if hls.is_relative_to(state) or state.is_relative_to(hls):
            raise ValueError("BROADCASTER_STATE_DIR and BROADCASTER_HLS_DIR must not lie inside each other")
        return self

    @model_validator(mode="after")
    def _need_what_they_build_on(self) -> Settings:
        if self.disconnect_grace is not None and not self.owncast_url:
            raise ValueError("BROADCASTER_DISCONNECT_GRACE_SECONDS needs BROADCASTER_OWNCAST_URL")
        if self.viewer_clips and not self.has_pages:
            raise ValueError("BROADCASTER_VIEWER_CLIPS needs BROADCASTER_RECORDINGS")
        return self

    @property
    def has_pages(self) -> bool:
        """Whether recordings have pages."""
        return self.recordings != timedelta()

    @property
    def keeps_for_those_behind(self) -> bool:
        """Whether viewers can go on where they paused when the window has left it."""
        return bool(self.retention_max_minutes and self.retention_max_size)

    @property
    def has_own_tracker(self) -> bool:
        """Whether viewers meet at our own tracker: not where it is off, or another one is named."""
        return self.tracker and self.tracker_url is None

    @property
    def s3_endpoint(self) -> str:
        """The address of the S3 interface; an explicit one wins."""
        where = f"{self.account_id}.{self.jurisdiction}" if self.jurisdiction else self.account_id
        return self.endpoint_url or f"https://{where}{R2_HOST}"


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - any setting, by the name of its variable
    """Read the settings from the environment, ``.env`` and systemd's credentials; ``overrides`` win.

    A credential is a file with the name of its variable (systemd.exec(5), ``LoadCredential=``).
    Raises ConfigError: one line that names every variable that is missing or wrong, without its value.
    """
    own = {"_secrets_dir": os.environ.get("CREDENTIALS_DIRECTORY"), "_env_file_encoding": _encoding(ENV_FILE)}
    try:
        return Settings(**{**own, **overrides})
    except ValidationError as error:
        complaints = [complaint(dict(one)) for one in error.errors()]
        raise ConfigError("; ".join(complaints + unknown_names())) from None


def unknown_names() -> list[str]:
    """What the environment and ``.env`` set that is no setting, with the nearest that is, for people."""
    names = {str(field.alias) for field in Settings.model_fields.values()}
    return misspelt(names, ENV_FILE, _encoding(ENV_FILE))


def _encoding(file: Path) -> str:
    """How a file of settings is written; Windows' tools write UTF-16. Raises ConfigError."""
    try:
        data = file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:  # without its mark, a text of settings has a zero in the first two bytes all the same
        encoding = {1: "utf-16-le", 0: "utf-16-be"}.get(data[:2].find(0), "utf-8-sig")
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not written as UTF-8: save it so") from None
    return encoding
