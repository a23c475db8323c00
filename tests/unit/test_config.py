"""Settings, and what is said when one is missing or wrong."""

from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.cli import main
from broadcaster.config import Settings, load, unknown_names
from broadcaster.doctor import startup_warnings
from broadcaster.errors import ConfigError
from broadcaster.service.serve import log_admin_address

SECRET = "s3cr3t-value"
GOOD = {
    "BROADCASTER_HLS_DIR": "hls",
    "R2_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "R2_BUCKET": "my-bucket",
    "R2_ACCESS_KEY_ID": "key-" + SECRET,
    "R2_SECRET_ACCESS_KEY": SECRET,
    "R2_PUBLIC_URL": "https://video.example.com/",
}
# A number that is one to Python, but of no use, must not be found out in the middle of a stream.
NO_NUMBERS = ("nan", "inf", "-inf", "-1", "12345678901234567", "1e300", "9" * 400, "9" * 5000)
NUMBERS = (
    "BROADCASTER_PORT",
    "BROADCASTER_ADMIN_PORT",
    "BROADCASTER_WINDOW_SEGMENTS",
    "BROADCASTER_WINDOW_SECONDS",
    "BROADCASTER_TARGET_DURATION",
    "BROADCASTER_SPOOL_LIMIT",
    "BROADCASTER_RETENTION",
    "BROADCASTER_RECORDINGS",
    "BROADCASTER_DRAIN_SECONDS",
    "BROADCASTER_END_GRACE_SECONDS",
    "BROADCASTER_DISCONNECT_GRACE_SECONDS",
    "BROADCASTER_MAX_WAITERS",
    "BROADCASTER_MAX_CONNECTIONS",
    "BROADCASTER_EGRESS_PRICE",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_where_the_dashboard_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The setting of the removed public dashboard is accepted; the log then says where the dashboard is."""
    log_admin_address(load(), "http://127.0.0.1:3001")
    monkeypatch.setenv("BROADCASTER_PUBLIC_DASHBOARD", "true")
    log_admin_address(load(), "http://127.0.0.1:3001")
    (warning,) = caplog.messages
    assert "BROADCASTER_PUBLIC_DASHBOARD has no effect" in warning
    assert "http://127.0.0.1:3001/dashboard" in warning


def test_defaults() -> None:
    """With the required settings alone, the rest is as documented."""
    settings = load()
    assert settings.host == "127.0.0.1"
    assert settings.port == 3000
    assert settings.window_segments == 10
    assert settings.prefix == "live"
    assert settings.s3_endpoint == "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"
    assert settings.public_url == "https://video.example.com"
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(("value", "expected"), [("off", timedelta()), ("30", timedelta(30)), ("keep", None)])
def test_recordings(monkeypatch: pytest.MonkeyPatch, value: str, expected: timedelta | None) -> None:
    """They are off unless asked for; kept for days, or for ever."""
    assert load().recordings == timedelta()
    monkeypatch.setenv("BROADCASTER_RECORDINGS", value)
    assert load().recordings == expected


def test_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers meet at our own tracker, unless it is off or another is named."""
    assert load().has_own_tracker
    monkeypatch.setenv("BROADCASTER_TRACKER", "false")
    assert not load().has_own_tracker
    monkeypatch.setenv("BROADCASTER_TRACKER", "true")
    monkeypatch.setenv("BROADCASTER_TRACKER_URL", "wss://tracker.example.com:8443/announce?key=1")
    assert not load().has_own_tracker
    assert load().tracker_url == "wss://tracker.example.com:8443/announce?key=1"


def test_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``.env`` is read; the environment wins; an empty value counts as missing."""
    monkeypatch.delenv("R2_BUCKET")
    (tmp_path / ".env").write_text("R2_BUCKET=from-file\nR2_PREFIX=ignored\nUNRELATED=1\n")
    monkeypatch.setenv("R2_PREFIX", "mine")
    monkeypatch.setenv("BROADCASTER_PORT", "")
    settings = load()
    assert (settings.bucket, settings.prefix, settings.port) == ("from-file", "mine", 3000)


def test_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Systemd's credentials are files with the variables' names; the environment wins."""
    monkeypatch.delenv("R2_SECRET_ACCESS_KEY")
    (tmp_path / "R2_SECRET_ACCESS_KEY").write_text("from-a-file\n")
    (tmp_path / "R2_BUCKET").write_text("ignored")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = load()
    assert settings.secret_access_key.get_secret_value() == "from-a-file"
    assert settings.bucket == "my-bucket"


def test_presigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A private bucket needs no public address; public is the default."""
    assert (load().urls, load().mirror) == ("public", False)
    monkeypatch.setenv("BROADCASTER_URLS", "presigned")
    monkeypatch.delenv("R2_PUBLIC_URL")
    assert load().public_url is None


@pytest.mark.parametrize(
    ("name", "most"),
    [("BROADCASTER_WINDOW_SECONDS", 302_400), ("BROADCASTER_WINDOW_SEGMENTS", 50_400)],
)
def test_a_window_that_outlives_signatures(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven days have to do for a window and for the time, as long again, that objects stay readable."""
    monkeypatch.setenv("BROADCASTER_TARGET_DURATION", "6")
    monkeypatch.setenv(name, str(most + 1))
    load()
    monkeypatch.setenv("BROADCASTER_URLS", "presigned")
    with pytest.raises(ConfigError, match=r"BROADCASTER_WINDOW_SECONDS.*302400.*BROADCASTER_URLS=presigned"):
        load()
    monkeypatch.setenv(name, str(most))
    load()


def test_owncast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owncast is asked only where its address is set, and its word ends nothing unless a time is set too."""
    assert (load().owncast_url, load().disconnect_grace) == (None, None)
    monkeypatch.setenv("BROADCASTER_OWNCAST_URL", "http://127.0.0.1:8080/")
    assert (load().owncast_url, load().disconnect_grace) == ("http://127.0.0.1:8080", None)
    monkeypatch.setenv("BROADCASTER_DISCONNECT_GRACE_SECONDS", "0")
    assert load().disconnect_grace == 0


def test_a_disconnect_grace_without_owncast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time after Owncast's word is of no use where Owncast is not asked, which names both settings."""
    monkeypatch.setenv("BROADCASTER_DISCONNECT_GRACE_SECONDS", "30")
    with pytest.raises(ConfigError, match=r"BROADCASTER_DISCONNECT_GRACE_SECONDS.*BROADCASTER_OWNCAST_URL"):
        load()
    monkeypatch.setenv("BROADCASTER_OWNCAST_URL", "http://127.0.0.1:8080")
    assert load().disconnect_grace == 30


def test_clips_of_viewers_without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that nobody can play is of no use, which names what is missing."""
    monkeypatch.setenv("BROADCASTER_VIEWER_CLIPS", "true")
    with pytest.raises(ConfigError, match=r"BROADCASTER_VIEWER_CLIPS.*BROADCASTER_RECORDINGS"):
        load()
    monkeypatch.setenv("BROADCASTER_RECORDINGS", "30")
    assert load().viewer_clips


def test_unknown_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error for an unknown name has the nearest known name, in the environment and in ``.env``."""
    assert unknown_names() == []
    monkeypatch.setenv("BROADCASTER_WINDOW_SECOND", "60")
    monkeypatch.setenv("broadcaster_port", "3000")  # a setting in any case
    monkeypatch.setenv("BROADCASTER_BUCKET", "x")
    (tmp_path / ".env").write_text("BROADCASTER_SPOOLLIMIT=1GiB\nBROADCASTER_COLOUR=red\nUNRELATED=1\n")
    assert unknown_names() == [
        "BROADCASTER_BUCKET is not a setting (perhaps R2_BUCKET is meant)",
        "BROADCASTER_COLOUR is not a setting",
        "BROADCASTER_SPOOLLIMIT is not a setting (perhaps BROADCASTER_SPOOL_LIMIT is meant)",
        "BROADCASTER_WINDOW_SECOND is not a setting (perhaps BROADCASTER_WINDOW_SECONDS is meant)",
    ]


def test_a_required_name_that_is_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that says what is missing says too what was written in its place."""
    monkeypatch.delenv("BROADCASTER_HLS_DIR")
    monkeypatch.setenv("BROADCASTER_HLSDIR", "hls")
    with pytest.raises(ConfigError, match=r"BROADCASTER_HLS_DIR is missing; BROADCASTER_HLSDIR is not"):
        load()


@pytest.mark.parametrize("name", sorted(GOOD))
def test_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever required variable is missing is named."""
    monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=f"{name} is missing"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROADCASTER_PORT", "http"),
        ("BROADCASTER_PORT", "70000"),
        ("BROADCASTER_WINDOW_SEGMENTS", "5"),
        ("BROADCASTER_LOG_LEVEL", "loud"),
        ("BROADCASTER_TRACKER", "maybe"),
        ("BROADCASTER_TRACKER_URL", "https://tracker.example.com"),
        ("BROADCASTER_LEADER_URL", "https://10.0.0.2:3000"),
        ("BROADCASTER_LEADER_URL", "http://10.0.0.2:3000/live"),
        ("BROADCASTER_LEADER_URL", "http://10.0.0.2:3000"),  # and no BROADCASTER_STANDBY
        ("BROADCASTER_STANDBY", "cold"),
        ("R2_ACCOUNT_ID", "https://x"),
        ("R2_ENDPOINT_URL", "r2.example.com"),
        ("R2_BUCKET", "../x"),
        ("R2_PUBLIC_URL", "ftp://x"),
        ("R2_PUBLIC_URL", "https://user:" + SECRET + "@x"),
        ("R2_PREFIX", "../live"),
        ("R2_PREFIX", "/"),
        ("BROADCASTER_URLS", "private"),
        ("BROADCASTER_MIRROR", "perhaps"),
        ("BROADCASTER_WINDOW_SECONDS", "604801"),
        ("BROADCASTER_OWNCAST_URL", "127.0.0.1:8080"),
        ("BROADCASTER_OWNCAST_URL", "http://127.0.0.1:8080/?x"),
        ("BROADCASTER_OWNCAST_URL", "http://admin:" + SECRET + "@127.0.0.1:8080"),
        ("BROADCASTER_DISCONNECT_GRACE_SECONDS", "-1"),
        ("BROADCASTER_DISCONNECT_GRACE_SECONDS", "soon"),
        ("BROADCASTER_RETENTION", "99999999999"),
        ("BROADCASTER_RETENTION", "-1"),
        ("BROADCASTER_RETENTION", "nan"),
        ("BROADCASTER_SPOOL_LIMIT", "0"),
        ("BROADCASTER_SPOOL_LIMIT", "-20GiB"),
        ("BROADCASTER_SPOOL_LIMIT", "262143"),
        ("BROADCASTER_SPOOL_LIMIT", "2PiB"),
        ("BROADCASTER_STATE_DIR", "hls"),
        ("BROADCASTER_STATE_DIR", "hls/0/state"),
        ("BROADCASTER_STATE_DIR", "."),
        ("BROADCASTER_STATE_DIR", "link"),
        ("R2_ENDPOINT_URL", "http://127.0.0.1:99999"),
        ("R2_ENDPOINT_URL", "http://[::1"),
        ("R2_ENDPOINT_URL", "http://:9000"),
        ("R2_PREFIX", "x" * 201),
        *((name, value) for name in NUMBERS for value in NO_NUMBERS),
    ],
)
def test_wrong(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong value is one line that names the variable, status 2, without a traceback or a secret."""
    Path("link").symlink_to("hls")
    monkeypatch.setenv("BROADCASTER_OWNCAST_URL", "http://127.0.0.1:8080")
    monkeypatch.setenv(name, value)
    # Before it is run: what is not refused would run for ever.
    with pytest.raises(ConfigError, match=name):
        load()
    assert main(["run"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("broadcaster: ")
    assert output.err.count("\n") == 1
    assert name in output.err
    assert SECRET not in output.err
    assert "Traceback" not in output.err


@pytest.mark.parametrize(
    ("value", "standby"), [("true", True), ("0", False), ("off", False), ("1", True), ("warm", "warm")]
)
def test_a_standby(value: str, standby: bool | str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """It may be warm, except for an encoder that pushes; all that was a bool before still is one."""
    monkeypatch.setenv("BROADCASTER_STANDBY", value)
    assert load().standby == standby
    monkeypatch.delenv("BROADCASTER_HLS_DIR")
    monkeypatch.setenv("BROADCASTER_SOURCE", "push")
    monkeypatch.setenv("BROADCASTER_PUSH_KEY", "k" * 16)
    if standby == "warm":
        with pytest.raises(ConfigError, match="needs BROADCASTER_SOURCE=folder"):
            load()
    else:
        load()


FOREIGN_WORDS = ("Input should", "unable to parse", "String should", "valid", "validation")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BROADCASTER_END_GRACE_SECONDS", "5min", "must be a number of seconds, in digits alone"),
        ("BROADCASTER_DRAIN_SECONDS", "10s", "must be a number of seconds, in digits alone"),
        ("BROADCASTER_WINDOW_SECONDS", "1h", "must be a number of seconds, in digits alone"),
        ("BROADCASTER_WINDOW_SEGMENTS", "ten", "must be a whole number of segments, in digits alone"),
        ("BROADCASTER_WINDOW_SEGMENTS", "7.5", "must be a whole number of segments, in digits alone"),
        ("BROADCASTER_RETENTION_MAX_MINUTES", "1h", "must be a whole number of minutes, in digits alone"),
        ("BROADCASTER_RETENTION", "5min", "must be window, keep, or a number of seconds"),
        ("BROADCASTER_RECORDINGS", "30d", "must be off, keep, or a number of days"),
        ("BROADCASTER_SPOOL_LIMIT", "much", "such as 512MiB or 20GiB"),
        ("BROADCASTER_PORT", "70000", "must be at most 65535"),
        ("BROADCASTER_WINDOW_SECONDS", "604801", "must be at most 7 days"),
        ("BROADCASTER_EGRESS_PRICE", "nan", "must be a"),
        ("BROADCASTER_TRACKER", "maybe", "must be true or false"),
        ("BROADCASTER_STANDBY", "cold", "must be true, false or warm"),
        ("BROADCASTER_URLS", "private", "must be public or presigned"),
        ("BROADCASTER_VIEWER_MODE", "fast", "must be low-delay or sharing"),
        ("BROADCASTER_LOG_LEVEL", "loud", "must be debug, info, warning or error"),
        ("BROADCASTER_ADMIN_NAMES", "a/b", "must be names of hosts"),
        ("R2_ACCOUNT_ID", "https://0123.r2.cloudflarestorage.com", "must be the account's id alone"),
        ("R2_ACCOUNT_ID", "0123456789abcdef0123456789abcdef.eu", "must be the account's id alone"),
        ("R2_BUCKET", "My_Bucket", "must be a bucket's name alone"),
        ("R2_JURISDICTION", "de", "must be eu or fedramp"),
        (
            "R2_ENDPOINT_URL",
            "https://a.r2.cloudflarestorage.com/my-bucket",
            "only R2_BUCKET names the bucket",
        ),
        (
            "R2_ENDPOINT_URL",
            "https://a.r2.cloudflarestorage.com/my-bucket/live",
            "must end before /my-bucket",
        ),
        ("R2_ENDPOINT_URL", "http://127.0.0.1:9000/my-bucket/", "only R2_BUCKET names the bucket"),
        (
            "R2_ENDPOINT_URL",
            "https://my-bucket.a.eu.r2.cloudflarestorage.com",
            "must not begin with my-bucket",
        ),
        ("BROADCASTER_HLS_DIR", "a-file", "is no folder"),
        ("BROADCASTER_STATE_DIR", "~nobody-of-that-name/state", "there is no such home folder"),
    ],
)
def test_words(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said in the words of the settings, and not in those of a library."""
    Path("a-file").touch()
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as raised:
        load()
    assert said in str(raised.value)
    assert not any(word in str(raised.value) for word in FOREIGN_WORDS)


@pytest.mark.parametrize("name", sorted(str(field.alias) for field in Settings.model_fields.values()))
@pytest.mark.parametrize("value", ["\x7f", "5min", "9" * 400])
def test_no_setting_speaks_as_a_library(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a setting is set to, it is taken, or refused in a line of our own."""
    monkeypatch.setenv(name, value)
    said = ""
    try:
        load()
    except ConfigError as error:
        said = str(error)
    assert not any(word in said for word in FOREIGN_WORDS), said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("R2_PUBLIC_ULR", "R2_PUBLIC_URL"),
        ("R2_ACCESS_KEY", "R2_ACCESS_KEY_ID"),
        ("R2_SECRET_KEY", "R2_SECRET_ACCESS_KEY"),
        ("R2_ENDPOINT", "R2_ENDPOINT_URL"),
        ("BROADCASTR_PORT", "BROADCASTER_PORT"),
        ("BROADCASTER-PORT", "BROADCASTER_PORT"),
    ],
)
def test_names_that_are_nearly_ours(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip is noticed in every part of a name; names of other programs are their own."""
    for other in ("R2_D2", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PORT", "LOG_LEVEL", "HOST"):
        monkeypatch.setenv(other, "x")
    monkeypatch.setenv(name, "x")
    assert unknown_names() == [f"{name} is not a setting (perhaps {meant} is meant)"]


def test_jurisdiction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket of a jurisdiction has an endpoint of its own, which can be given whole, too."""
    monkeypatch.setenv("R2_JURISDICTION", "eu")
    expected = "https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com"
    assert load().s3_endpoint == expected
    monkeypatch.delenv("R2_JURISDICTION")
    monkeypatch.delenv("R2_ACCOUNT_ID")
    monkeypatch.setenv("R2_ENDPOINT_URL", f"{expected}/")
    assert load().s3_endpoint == expected


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In folders ~ is the home folder, wherever they are set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BROADCASTER_HLS_DIR", "~/hls")
    (tmp_path / ".env").write_text("BROADCASTER_STATE_DIR=~/state\nBROADCASTER_VIEWER_DIR=~/viewer\n")
    settings = load()
    assert settings.hls_dir == tmp_path / "hls"
    assert settings.state_dir == tmp_path / "state"
    assert settings.viewer_dir == tmp_path / "viewer"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_of_the_file(encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Windows' tools write it, ``.env`` is read all the same; names in it are checked."""
    monkeypatch.delenv("R2_BUCKET")
    (tmp_path / ".env").write_bytes("R2_BUCKET=from-file\r\nR2_PUBLIC_ULR=Ü\r\n".encode(encoding))
    assert load().bucket == "from-file"
    assert len(unknown_names()) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other encodings are named, in one line."""
    (tmp_path / ".env").write_bytes("R2_BUCKET=Ü".encode("latin-1"))
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "broadcaster: .env is not written as UTF-8: save it so\n"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It may come later, and the start warns of it."""
    assert any(f"HLS folder {Path('hls')} does not exist" in warning for warning in startup_warnings(load()))
    (tmp_path / "hls").mkdir()
    assert not any("does not exist" in warning for warning in startup_warnings(load()))


def test_the_edge_needs_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge has an address and a key of 256 bits; what lacks is named, and the key never shown."""
    monkeypatch.setenv("BROADCASTER_EDGE_URL", "https://live.example.com/")
    with pytest.raises(ConfigError, match="BROADCASTER_EDGE_URL and BROADCASTER_EDGE_KEY need each other"):
        load()
    monkeypatch.setenv("BROADCASTER_EDGE_KEY", SECRET)
    with pytest.raises(ConfigError, match="BROADCASTER_EDGE_KEY: must have at least 43 characters") as caught:
        load()
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("BROADCASTER_EDGE_KEY", "k" * 43)
    assert load().edge_url == "https://live.example.com"
    assert "kkk" not in repr(load())
