"""README, docs/ and the other pages of the tree, and the commands for readers in them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "deploy/cloudflare/README.md",
]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What ``test_readme_commands`` runs, in this order. ``test_documents`` checks the others and runs none.
RUN = (
    "make demo",
    "make test",
    "sudo deploy/install.sh",
    "sudo broadcaster check",
    "make setup",
    "cp .env.example .env",
    ".venv/bin/broadcaster check",
    ".venv/bin/broadcaster run",
    "npm ci --prefix deploy/pm2",
    "deploy/pm2/node_modules/.bin/pm2 start deploy/pm2/ecosystem.config.cjs",
)


def commands() -> Iterator[str]:
    """Every line of every ``sh`` block, without its comment."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                if command := re.sub(r"(^|\s)\s*#\s.*$", "", line).strip():
                    yield command
