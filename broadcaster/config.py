"""The settings, their types and their error lines: the only reader of the environment and of ``.env``.

An error line names the variable and the rule for its value. It never shows the value, which may be a secret.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from broadcaster.aio import PATH_TIMEOUT, OwnThread, real_path
from broadcaster.errors import ConfigError
from broadcaster.hls.manifest import MIN_WINDOW_SEGMENTS
from broadcaster.ipc.messages import AccessMode
from broadcaster.own_files import DASHBOARD_DIR, VIEWER_DIR, text_encoding
from broadcaster.setting_types import (
    MAX_SPOOL,
    AccountId,
    BucketName,
    Folder,
    HostNames,
    HttpUrl,
    ListenerUrl,
    LogLevel,
    Prefix,
    Seconds,
    SocketUrl,
    SpoolSize,
    Standby,
    keep_time,
    seconds,
)

MAX_WINDOW = LONGEST_SIGNATURE = timedelta(days=7)  # of a presigned URL: what SigV4 allows, and R2
MAX_CLIENTS = 1_000_000
ENV_FILE = Path(".env")
R2_HOST = ".r2.cloudflarestorage.com"


UNITS = {"_SECONDS": " of seconds", "_MINUTES": " of minutes", "_SEGMENTS": " of segments"}
# The rule for a value by the first letters of the type of pydantic's error.
RULES = {
    "int": "must be a whole number{unit}, in digits alone",
    "float": "must be a number{unit}, in digits alone",
    "finite": "must be a number{unit}, in digits alone",
    "time_delta": "must be a number of seconds, in digits alone",
    "byte_size": "must be a number of bytes, or one with a unit, such as 512MiB or 20GiB",
    "bool": "must be true or false",
    "literal": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
UNKNOWN = "has an impossible value; .env.example describes the setting"


class Settings(BaseSettings):
    """Every setting, by the name of its variable. Secrets are never shown.

    The descriptions are the text of docs/settings.md, which ``make docs`` writes.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )
    hls_dir: Folder = Field(
        alias="BROADCASTER_HLS_DIR",
        description="The folder into which Owncast, or another encoder, writes HLS. Not for an encoder that"
        " pushes.",
    )
    state_dir: Folder = Field(
        default=Path("state"),
        alias="BROADCASTER_STATE_DIR",
        description="The folder of the spool, the catalog and the operator's token. Put it on the file system"
        " of the HLS folder: the spool then links segments instead of copying them. It must not be"
        " inside the HLS folder, nor contain it. The service closes it to other users.",
    )
    spool_limit: SpoolSize = Field(
        default=ByteSize(20 * 2**30),
        alias="BROADCASTER_SPOOL_LIMIT",
        description="Size of the spool, which holds the segments that wait for the bucket; at least 256KiB."
        " Above it the oldest waiting segments are dropped and become gaps.",
    )
    drain: Seconds = Field(
        default=10,
        alias="BROADCASTER_DRAIN_SECONDS",
        description="Seconds for which SIGTERM waits for uploads. The rest is uploaded after the next start.",
    )
    lease: Annotated[float, Field(ge=3, le=60)] = Field(
        default=10,
        alias="BROADCASTER_LEASE_SECONDS",
        description="Seconds without a sign of the leader until another one leads. Without a stream 180.",
    )
    standby: Standby = Field(
        default=False,
        alias="BROADCASTER_STANDBY",
        description="`true` on each of two broadcasters of one stream: one leads, the other one takes over."
        " `warm`: while it stands by, it [uploads its own segments in advance](standby.md#a-warm-standby).",
    )
    leader_url: ListenerUrl | None = Field(
        default=None,
        alias="BROADCASTER_LEADER_URL",
        description="Where the [other broadcaster](standby.md) listens for viewers, `http://10.0.0.2:3000`: a"
        " standby passes viewers' requests on to it. Needs `BROADCASTER_STANDBY`.",
    )
    account_id: AccountId | None = Field(
        default=None,
        alias="R2_ACCOUNT_ID",
        description="The id of the Cloudflare account. Required, unless `R2_ENDPOINT_URL` is set.",
    )
    jurisdiction: Literal["eu", "fedramp"] | None = Field(
        default=None,
        alias="R2_JURISDICTION",
        description="The bucket's jurisdiction, if any: `eu` or `fedramp`.",
    )
    endpoint_url: HttpUrl | None = Field(
        default=None, alias="R2_ENDPOINT_URL", description="Another S3 server's address, without the bucket."
    )
    bucket: BucketName = Field(alias="R2_BUCKET", description="The name of the bucket.")
    access_key_id: SecretStr = Field(
        min_length=1,
        alias="R2_ACCESS_KEY_ID",
        description="The access key id of an API token with *Object Read & Write* on this bucket.",
    )
    secret_access_key: SecretStr = Field(
        min_length=1, alias="R2_SECRET_ACCESS_KEY", description="The secret access key of the same token."
    )
    public_url: HttpUrl | None = Field(
        default=None,
        alias="R2_PUBLIC_URL",
        description="The address at which viewers read the bucket: its custom domain. Required, unless"
        " `BROADCASTER_URLS` is `presigned`.",
    )
    prefix: Prefix = Field(
        default="live",
        alias="R2_PREFIX",
        description="The prefix of all object keys. Each broadcaster needs a prefix of its own.",
    )
    urls: Literal["public", "presigned"] = Field(
        default="public",
        alias="BROADCASTER_URLS",
        description="`public`: segment URLs are at `R2_PUBLIC_URL`. `presigned`: the bucket is private, and"
        " each segment URL is signed for 7 days.",
    )
    mirror: bool = Field(
        default=False, alias="BROADCASTER_MIRROR", description="Write each playlist into the bucket, too."
    )
    window_segments: int = Field(
        default=10,
        ge=MIN_WINDOW_SEGMENTS,
        le=MAX_WINDOW // timedelta(seconds=1),
        alias="BROADCASTER_WINDOW_SEGMENTS",
        description="Number of segments that a live playlist lists; at least 6.",
    )
    window: Annotated[timedelta, BeforeValidator(seconds)] = Field(
        default=timedelta(),
        ge=timedelta(),
        le=MAX_WINDOW,
        alias="BROADCASTER_WINDOW_SECONDS",
        description="Duration of a live playlist in seconds: how far viewers can seek back. The longer of"
        " this and `BROADCASTER_WINDOW_SEGMENTS` holds.",
    )
    target_duration: int | None = Field(
        default=None,
        ge=1,
        le=60,
        alias="BROADCASTER_TARGET_DURATION",
        description="EXT-X-TARGETDURATION in seconds; by default it follows the source. Set it above the"
        " longest segment when Owncast passes video through.",
    )
    end_grace: Seconds = Field(
        default=300,
        alias="BROADCASTER_END_GRACE_SECONDS",
        description="Seconds in which a stream that stopped can come back before it ends.",
    )
    source: Literal["folder", "push"] = Field(
        default="folder",
        alias="BROADCASTER_SOURCE",
        description="How segments come from the [encoder](encoders.md): it writes them into"
        " `BROADCASTER_HLS_DIR` (`folder`), or sends them by HTTP (`push`): they lie in the state folder.",
    )
    push_host: str = Field(
        default="127.0.0.1",
        alias="BROADCASTER_PUSH_HOST",
        description="The address on which the listener for an encoder that pushes listens. For an encoder"
        " elsewhere put a reverse proxy with TLS before it.",
    )
    push_port: int = Field(
        default=3002,
        ge=0,
        le=65535,
        alias="BROADCASTER_PUSH_PORT",
        description="The port of the listener for an encoder that pushes.",
    )
    push_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        alias="BROADCASTER_PUSH_KEY",
        description="The key of an encoder that pushes, of at least 16 characters: as a bearer token, as the"
        " password of Basic, or as the first part of the path (`/ingest/KEY/stream.m3u8`).",
    )
    owncast_url: HttpUrl | None = Field(
        default=None,
        alias="BROADCASTER_OWNCAST_URL",
        description="The address of Owncast, e.g. `http://127.0.0.1:8080`. The service then asks Owncast"
        " whether the encoder is connected, and for the stream's title and picture.",
    )
    mediamtx_url: HttpUrl | None = Field(
        default=None,
        alias="BROADCASTER_MEDIAMTX_URL",
        description="The address of MediaMTX's control API with the path that is published to, e.g."
        " `http://127.0.0.1:9997/live`. The service then asks whether the path has a stream.",
    )
    disconnect_grace: Seconds | None = Field(
        default=None,
        alias="BROADCASTER_DISCONNECT_GRACE_SECONDS",
        description="Seconds after which the stream ends when Owncast or MediaMTX reports that the encoder"
        " has disconnected; at least 2 s pass, for the last segments. When it is not set, that report"
        " ends no stream before `BROADCASTER_END_GRACE_SECONDS`.",
    )

    retention: Annotated[timedelta | None, keep_time("window", "seconds")] = Field(
        default=timedelta(),
        alias="BROADCASTER_RETENTION",
        description="When objects that left the playlists are deleted: `window` as soon as no player can need"
        " them, a number after so many seconds, `keep` never. A change holds for what leaves later.",
    )
    retention_max_minutes: int = Field(
        default=60,
        ge=0,
        le=1440,
        alias="BROADCASTER_RETENTION_MAX_MINUTES",
        description="Longest delay, in minutes, for which segments stay available to viewers who paused for"
        " longer than the window. `0` switches this off.",
    )
    retention_max_size: Annotated[ByteSize, Field(ge=0, le=MAX_SPOOL)] = Field(
        default=ByteSize(5 * 2**30),
        alias="BROADCASTER_RETENTION_MAX_SIZE",
        description="Most bytes that are listed for such viewers, and so the most that forged reports of"
        " pages can make the service keep; a stream that ended can keep as much again until it can"
        " have been played. `0` switches this off.",
    )
    recordings: Annotated[timedelta | None, keep_time("off", "days")] = Field(
        default=timedelta(),
        alias="BROADCASTER_RECORDINGS",
        description="`off`, or record each stream: a number keeps recordings for so many days after the end,"
        " `keep` keeps them for ever. Switched off, a recording that has begun is kept.",
    )
    viewer_clips: bool = Field(
        default=False,
        alias="BROADCASTER_VIEWER_CLIPS",
        description="Let viewers make clips of the last half minute. Needs `BROADCASTER_RECORDINGS`.",
    )
    pictures: str = Field(
        default="ffmpeg",
        alias="BROADCASTER_PICTURES",
        description="The ffmpeg that makes pictures of the stream: a name in `PATH`, a path, or `off`.",
    )
    host: str = Field(
        default="127.0.0.1",
        alias="BROADCASTER_HOST",
        description="The address on which the viewers' listener listens. `::` is every address.",
    )
    port: int = Field(
        default=3000,
        ge=0,
        le=65535,
        alias="BROADCASTER_PORT",
        description="The port of the viewers' listener.",
    )
    trusted_header: Literal["cf-connecting-ip", "x-forwarded-for", "none"] | None = Field(
        default=None,
        alias="BROADCASTER_TRUSTED_HEADER",
        description="The header in which the tunnel or proxy on this machine sends the viewer's address:"
        " `cf-connecting-ip`, `x-forwarded-for` or `none`. When it is not set, whichever of the"
        " two comes is used, `cf-connecting-ip` first. `broadcaster check --public URL` tests it.",
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        le=MAX_CLIENTS,
        alias="BROADCASTER_MAX_CONNECTIONS",
        description="Most open connections of viewers.",
    )
    max_waiters: int = Field(
        default=5000,
        ge=0,
        le=MAX_CLIENTS,
        alias="BROADCASTER_MAX_WAITERS",
        description="Most blocked playlist requests, and most readers of `/live/events`, each.",
    )
    reports_per_second: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=5,
        alias="BROADCASTER_REPORTS_PER_SECOND",
        description="Most reports of pages per second. Of a large audience a sample reports: viewers, stalls"
        " and bytes are estimates then. `0`: no reports, no count of viewers, nothing kept for paused ones.",
    )
    viewer_dir: Folder = Field(
        default=VIEWER_DIR,
        alias="BROADCASTER_VIEWER_DIR",
        description="The folder of the viewers' page, as `make setup` builds it.",
    )
    viewer_mode: Literal["low-delay", "sharing"] = Field(
        default="low-delay",
        alias="BROADCASTER_VIEWER_MODE",
        description="How the page plays unless its viewer chooses: `low-delay`, or `sharing`, which exchanges"
        " video with other viewers and is a few seconds later.",
    )
    access: AccessMode = Field(
        default="public",
        alias="BROADCASTER_ACCESS",
        description="Who may watch: `public`; or, for a [private event](private-events.md), `invitation`:"
        " who has an invitation's link; `passphrase`: who knows the passphrase as well.",
    )
    gate_file: Path | None = Field(
        default=None, alias="BROADCASTER_GATE_FILE", description="nginx's [gate file](private-events.md)."
    )
    access_secret: Annotated[SecretStr, Field(min_length=32)] | None = Field(
        default=None,
        alias="BROADCASTER_ACCESS_SECRET",
        description="For a private event with a [standby](standby.md#private-events): a random text of 32"
        " characters or more, the same on both. It seals in the bucket who may watch. By it, too, the right"
        " [passphrase](private-events.md#tokens) is recognised during a flood of wrong ones.",
    )
    doors: Literal["open", "closed"] = Field(
        default="open", alias="BROADCASTER_DOORS", description="`closed`: a [rehearsal](private-events.md)."
    )
    tracker: bool = Field(
        default=True,
        alias="BROADCASTER_TRACKER",
        description="Serve the WebTorrent tracker at `/live/tracker`, by which sharing viewers meet.",
    )
    tracker_url: SocketUrl | None = Field(
        default=None,
        alias="BROADCASTER_TRACKER_URL",
        description="Another WebTorrent tracker (`wss://...`), used in place of the service's own.",
    )
    edge_url: HttpUrl | None = Field(
        default=None, alias="BROADCASTER_EDGE_URL", description="Address of the edge's [Worker](scaling.md)."
    )
    edge_key: SecretStr | None = Field(
        default=None,
        min_length=43,
        alias="BROADCASTER_EDGE_KEY",
        description="The Worker's secret `EDGE_KEY`: 256 random bits, in at least 43 characters.",
    )
    admin_host: str = Field(
        default="127.0.0.1",
        alias="BROADCASTER_ADMIN_HOST",
        description="The address on which the operator's listener listens. It has no login: keep it private.",
    )
    admin_port: int = Field(
        default=3001,
        ge=0,
        le=65535,
        alias="BROADCASTER_ADMIN_PORT",
        description="The port of the operator's listener: dashboard, metrics, health and API.",
    )
    admin_names: HostNames = Field(
        default="",
        alias="BROADCASTER_ADMIN_NAMES",
        description="Host names, separated by commas, under which the operator's listener answers besides its"
        " address and this machine's names; e.g. the name that Prometheus in another container uses.",
    )
    public_dashboard: bool = Field(
        default=False,
        alias="BROADCASTER_PUBLIC_DASHBOARD",
        description="Has no effect any more: the dashboard is on the operator's listener alone.",
    )
    dashboard_dir: Folder = Field(
        default=DASHBOARD_DIR,
        alias="BROADCASTER_DASHBOARD_DIR",
        description="Folder of the dashboard's page.",
    )
    egress_price: float = Field(
        default=0.09,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        alias="BROADCASTER_EGRESS_PRICE",
        description="Dollars for a gigabyte of egress, with which the costs of the bucket are compared.",
    )
    log_level: LogLevel = Field(
        default="info",
        alias="BROADCASTER_LOG_LEVEL",
        description="The least severe log lines that are written: `debug`, `info`, `warning` or `error`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _set_push_folder(cls, values: dict[str, Any]) -> dict[str, Any]:
        """An encoder that pushes needs no HLS folder: its files lie in the state folder."""
        if values.get("BROADCASTER_SOURCE") != "push":
            return values
        if values.get("BROADCASTER_HLS_DIR"):
            raise ValueError("BROADCASTER_HLS_DIR is not for BROADCASTER_SOURCE=push: remove it")
        state = values.get("BROADCASTER_STATE_DIR") or cls.model_fields["state_dir"].default
        return values | {"BROADCASTER_HLS_DIR": Path(state) / "push"}

    @model_validator(mode="after")
    def _check_endpoint(self) -> Settings:
        """The client adds the bucket's name; an endpoint that has it too would change the object keys."""
        if not self.account_id and not self.endpoint_url:
            raise ValueError("R2_ACCOUNT_ID is missing (or R2_ENDPOINT_URL, for another S3 server)")
        parts = urlsplit(self.endpoint_url or "")
        host, path = parts.hostname or "", parts.path.strip("/")
        is_r2 = host.endswith(R2_HOST)
        if path.rpartition("/")[2] == self.bucket or (is_r2 and path):
            raise ValueError(f"R2_ENDPOINT_URL must end before /{path}: only R2_BUCKET names the bucket")
        if host.startswith(f"{self.bucket}.") and (is_r2 or host.endswith(".amazonaws.com")):
            raise ValueError(f"R2_ENDPOINT_URL must not begin with {self.bucket}: only R2_BUCKET names it")
        return self

    @model_validator(mode="after")
    def _check_folders(self) -> Settings:
        """Owncast empties its folder when it starts; the spool deletes files that it does not know.

        An HLS folder that does not exist may be made later, but a file is an error.
        """
        with OwnThread("HLS folder") as thread, suppress(OSError, TimeoutError):
            status = thread.submit(self.hls_dir.stat).result(PATH_TIMEOUT)
            if not stat.S_ISDIR(status.st_mode):
                raise ValueError(f"BROADCASTER_HLS_DIR is no folder: {self.hls_dir} is a file")
        if self.source == "push":
            return self
        hls, state = (real_path(folder) for folder in (self.hls_dir, self.state_dir))
        if hls.is_relative_to(state) or state.is_relative_to(hls):
            raise ValueError("BROADCASTER_STATE_DIR and BROADCASTER_HLS_DIR must not lie inside each other")
        return self

    @model_validator(mode="after")
    def _check_public_urls(self) -> Settings:
        if self.urls == "public" and not self.public_url:
            raise ValueError("R2_PUBLIC_URL is missing (or BROADCASTER_URLS=presigned, for a private bucket)")
        window = max(self.window, self.window_segments * timedelta(seconds=self.target_duration or 1))
        # A segment is listed for one window and must stay readable for another (§6.2.2).
        if self.urls == "presigned" and 2 * window > LONGEST_SIGNATURE:
            most = LONGEST_SIGNATURE // 2 // timedelta(seconds=1)
            raise ValueError(
                f"BROADCASTER_WINDOW_SECONDS: a window of more than {most} s outlives signed URLs"
                " (BROADCASTER_URLS=presigned)"
            )
        return self

    @model_validator(mode="after")
    def _check_required_settings(self) -> Settings:
        if (self.source == "push") is not bool(self.push_key):
            raise ValueError("BROADCASTER_SOURCE=push and BROADCASTER_PUSH_KEY need each other")
        if self.disconnect_grace is not None and not (self.owncast_url or self.mediamtx_url):
            needs = "needs BROADCASTER_OWNCAST_URL, or BROADCASTER_MEDIAMTX_URL"
            raise ValueError(f"BROADCASTER_DISCONNECT_GRACE_SECONDS {needs}")
        if self.owncast_url and self.mediamtx_url:
            raise ValueError("BROADCASTER_OWNCAST_URL and BROADCASTER_MEDIAMTX_URL exclude each other")
        if self.mediamtx_url and not urlsplit(self.mediamtx_url).path:
            raise ValueError("BROADCASTER_MEDIAMTX_URL must end with the path, as http://127.0.0.1:9997/live")
        if (self.edge_url is None) is not (self.edge_key is None):
            raise ValueError("BROADCASTER_EDGE_URL and BROADCASTER_EDGE_KEY need each other")
        if self.is_private and (self.mirror or self.tracker_url):
            open_ways = "BROADCASTER_MIRROR and BROADCASTER_TRACKER_URL have no gate"
            raise ValueError(f"{open_ways}: remove them, or set BROADCASTER_ACCESS=public")
        if self.viewer_clips and not self.has_pages:
            raise ValueError("BROADCASTER_VIEWER_CLIPS needs BROADCASTER_RECORDINGS")
        return self

    @model_validator(mode="after")
    def _check_standby(self) -> Settings:
        if self.is_private and self.standby and (self.gate_file or not self.access_secret):
            needs = "needs BROADCASTER_ACCESS_SECRET, and no BROADCASTER_GATE_FILE"
            raise ValueError(f"BROADCASTER_STANDBY of a private event {needs}")
        if self.leader_url and not self.standby:
            raise ValueError("BROADCASTER_LEADER_URL needs BROADCASTER_STANDBY=true")
        if self.standby == "warm" and self.source == "push":
            raise ValueError("BROADCASTER_STANDBY=warm needs BROADCASTER_SOURCE=folder")
        return self

    @property
    def is_private(self) -> bool:
        """Whether only guests may watch."""
        return self.access != "public"

    @property
    def has_pages(self) -> bool:
        """Whether recordings have pages."""
        return self.recordings != timedelta()

    @property
    def has_dvr_playlist(self) -> bool:
        """Whether segments stay listed for viewers who paused for longer than the window."""
        return bool(self.retention_max_minutes and self.retention_max_size and self.reports_per_second)

    @property
    def has_own_tracker(self) -> bool:
        """Whether the service serves its own tracker: it is on, and no other tracker is set."""
        return self.tracker and self.tracker_url is None

    @property
    def s3_endpoint(self) -> str:
        """The URL of the S3 API: ``R2_ENDPOINT_URL``, or that of the account."""
        account = f"{self.account_id}.{self.jurisdiction}" if self.jurisdiction else self.account_id
        return self.endpoint_url or f"https://{account}{R2_HOST}"


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - any setting, by the name of its variable
    """Read the settings from the environment, ``.env`` and systemd's credentials; ``overrides`` win.

    A credential is a file with the name of its variable (systemd.exec(5), ``LoadCredential=``).
    Raises ConfigError: one line that names every variable that is missing or wrong, without its value.
    """
    own = {"_secrets_dir": os.environ.get("CREDENTIALS_DIRECTORY"), "_env_file_encoding": _encoding(ENV_FILE)}
    try:
        return Settings(**{**own, **overrides})
    except ValidationError as error:
        lines = [_error_line(dict(item)) for item in error.errors()]
        raise ConfigError("; ".join(lines + unknown_names())) from None


def _error_line(error: Mapping[str, Any]) -> str:
    """An item of pydantic's ``errors()`` as one line."""
    name = str(error["loc"][0]) if error["loc"] else ""
    kind = str(error["type"])
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":  # raised by a validator of this module
        message = str(error["msg"]).removeprefix("Value error, ")
    else:
        unit = next((text for ending, text in UNITS.items() if name.endswith(ending)), "")
        context = {key: _limit_text(value) for key, value in error.get("ctx", {}).items()}
        rule = next((text for begin, text in RULES.items() if kind.startswith(begin)), UNKNOWN)
        message = rule.format_map(context | {"unit": unit})
    return f"{name}: {message}" if name else message


def _limit_text(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} seconds"
    return str(value).replace("'", "")


OWN_PREFIX, BUCKET_PREFIX = "BROADCASTER_", "R2_"  # other programs have variables like the second, too
FOREIGN_PREFIXES = ("AWS_",)  # names of other programs that resemble the bucket's
# Least similarity (difflib) to a setting's name: of names with each prefix, and of all others.
OWN_CUTOFF, BUCKET_CUTOFF, OTHER_CUTOFF = 0.6, 0.7, 0.88


def unknown_names() -> list[str]:
    """Unknown names in the environment and ``.env``, one line each, with the setting that may be meant."""
    names = {*os.environ, *dotenv_values(ENV_FILE, interpolate=False, encoding=_encoding(ENV_FILE))}
    unknown = ((name, _nearest_setting(name.upper())) for name in sorted(names))
    return [
        f"{name} is not a setting{f' (perhaps {nearest} is meant)' if nearest else ''}"
        for name, nearest in unknown
        if nearest != name.upper() and (nearest or name.upper().startswith(OWN_PREFIX))
    ]


@cache
def _nearest_setting(name: str) -> str | None:
    """The most similar setting, if any is similar enough. The prefix that most settings share is ignored."""
    settings = [str(field.alias) for field in Settings.model_fields.values()]
    if name in settings:
        return name
    if name.startswith(FOREIGN_PREFIXES):
        return None
    prefix, cutoff = "", BUCKET_CUTOFF if name.startswith(BUCKET_PREFIX) else OTHER_CUTOFF
    if name.startswith(OWN_PREFIX):
        prefix, cutoff = OWN_PREFIX, OWN_CUTOFF
    names = {setting.removeprefix(prefix): setting for setting in settings}
    nearest = get_close_matches(name.removeprefix(prefix), names, n=1, cutoff=cutoff)
    return names[nearest[0]] if nearest else None


def _encoding(file: Path) -> str:
    try:
        return text_encoding(file)
    except (OSError, UnicodeDecodeError) as error:
        why = f": {error.strerror}" if isinstance(error, OSError) else " is not written as UTF-8: save it so"
        raise ConfigError(f"{file}{why}") from None
