"""Writes docs/settings.md and .env.example from the fields of ``broadcaster.config.Settings``.

``make docs`` runs it; ``tests/unit/test_documents.py`` fails while they and the fields differ.
"""

from __future__ import annotations

import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from broadcaster.config import Settings
from broadcaster.own_files import VIEWER

ROOT = Path(__file__).resolve().parents[1]
PAGE, EXAMPLE = ROOT / "docs/settings.md", ROOT / ".env.example"
# By the first field of each: the sections of the page, in the order of the fields.
SECTIONS = {
    "hls_dir": "Folders and spool",
    "account_id": "Bucket",
    "window_segments": "Stream and playlists",
    "retention": "What is kept",
    "host": "Viewers",
    "edge_url": "Edge",
    "admin_host": "Operator",
}
# Defaults that do not read like the setting's own notation.
DEFAULTS = {
    "BROADCASTER_RETENTION": "window",
    "BROADCASTER_RECORDINGS": "off",
    "BROADCASTER_SPOOL_LIMIT": "20GiB",
    "BROADCASTER_RETENTION_MAX_SIZE": "5GiB",
}
# What .env.example sets, for the reader to change or to fill in; all other settings are comments there.
SET = {
    "BROADCASTER_HLS_DIR": "/opt/owncast/data/hls",
    "BROADCASTER_STATE_DIR": "/var/lib/broadcaster",
    "R2_ACCOUNT_ID": "",
    "R2_BUCKET": "",
    "R2_ACCESS_KEY_ID": "",
    "R2_SECRET_ACCESS_KEY": "",
    "R2_PUBLIC_URL": "https://video.example.com",
}
HEAD = """\
# Settings

<!-- Generated from broadcaster/config.py by `make docs`: change the descriptions there. -->

The service reads settings from the environment, from `.env` in its working directory, and from systemd
credentials (a file with the name of the setting). An installation has them in
`/etc/broadcaster/broadcaster.env` and `/etc/broadcaster/credentials/`. The environment wins over `.env`.

A missing or wrong value ends `broadcaster run` with one line that names the setting, and exit status 2. The
log reports an unknown name, with the nearest name that exists. [`.env.example`](../.env.example) lists all.
"""


def default(field: Any) -> str:  # noqa: ANN401 - pydantic's FieldInfo
    """The default of a setting, as an operator writes it; empty if there is none."""
    value = field.default
    if field.alias in DEFAULTS:
        return f"`{DEFAULTS[field.alias]}`"
    if value is PydanticUndefined:
        return "required"
    match value:
        case None | "":
            return "—"
        case bool():
            value = str(value).lower()
        case timedelta():
            value = int(value.total_seconds())
        case float():
            value = f"{value:g}"
        case Path() if value.is_relative_to(VIEWER):
            value = value.relative_to(VIEWER.parent)
    return f"`{value}`"


def render() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += [f"\n## {SECTIONS[name]}\n", "| setting | default | meaning |", "|---|---|---|"]
        lines.append(f"| `{field.alias}` | {default(field)} | {field.description} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def render_example() -> str:
    """``.env.example``: each setting below its description, most of them as comments."""
    lines = ["# Copy to .env and fill in. The environment wins over this file. Made by `make docs`."]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines.append(f"\n# {SECTIONS[name]}\n")
        text = str(field.description).replace("`", "").replace("*", "")
        lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        value = default(field).strip("`").replace("—", "")
        alias = str(field.alias)
        lines.append(f"{alias}={SET[alias]}" if alias in SET else f"#{alias}={value}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
    EXAMPLE.write_text(render_example())
