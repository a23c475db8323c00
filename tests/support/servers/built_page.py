"""The page as `make setup` has built it."""

from broadcaster.own_files import VIEWER_DIR


def largest() -> str:
    """The address of its largest file: the script that it starts with."""
    (script,) = (VIEWER_DIR / "assets").glob("main-*.js")
    return f"/assets/{script.name}"


def worker() -> str:
    """The address of hls.js' worker, which the script fetches."""
    (script,) = (VIEWER_DIR / "assets").glob("hls.worker-*.js")
    return f"/assets/{script.name}"
