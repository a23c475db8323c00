"""The settings: the only reader of the environment, of ``.env`` and of systemd's credentials."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

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
from broadcaster.setting_types import MAX_SPOOL, HttpUrl, Prefix, Seconds, SocketUrl, SpoolLimit, Window, kept
from broadcaster.threads import real_path

MAX_WINDOW = timedelta(days=7)
LONGEST_SIGNATURE = timedelta(days=7)  # of a presigned URL: what SigV4 allows, and R2
MAX_CLIENTS = 1_000_000
MAX_PREFIX = 200  # bytes: with run, variant and name a key has 1024 at most
ENV_FILE = Path(".env")
VIEWER = Path(__file__).resolve().parent.parent / "viewer"
VIEWER_DIR, DASHBOARD_DIR = VIEWER / "dist", VIEWER / "dashboard"


class Settings(BaseSettings):
    """Every setting, by the name of its variable. Secrets are never shown."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )

    hls_dir: Path = Field(alias="BROADCASTER_HLS_DIR")
    state_dir: Path = Field(default=Path("state"), alias="BROADCASTER_STATE_DIR")
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
    viewer_dir: Path = Field(default=VIEWER_DIR, alias="BROADCASTER_VIEWER_DIR")
    dashboard_dir: Path = Field(default=DASHBOARD_DIR, alias="BROADCASTER_DASHBOARD_DIR")
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
        return self.endpoint_url or f"https://{self.account_id}.r2.cloudflarestorage.com"


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - any setting, by the name of its variable
    """Read the settings from the environment, ``.env`` and systemd's credentials; ``overrides`` win.

    A credential is a file with the name of its variable (systemd.exec(5), ``LoadCredential=``).
    Raises ConfigError: one line that names every variable that is missing or wrong, without its value.
    """
    try:
        return Settings(**{"_secrets_dir": os.environ.get("CREDENTIALS_DIRECTORY"), **overrides})
    except ValidationError as error:
        complaints = [_complaint(dict(one)) for one in error.errors()]
        raise ConfigError("; ".join(complaints + unknown_names())) from None


def unknown_names() -> list[str]:
    """What the environment and ``.env`` set that is no setting, with the nearest that is, for people."""
    return misspelt({str(field.alias) for field in Settings.model_fields.values()}, ENV_FILE)


def _complaint(error: dict[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "missing":
        return f"{name} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
