"""``broadcaster export``: a file of what is in the bucket."""

from __future__ import annotations

import argparse

from broadcaster import logs
from broadcaster.commands.arguments import add_upload_options
from broadcaster.export.job import export
from broadcaster.export.plan import add_options as add_export_options
from broadcaster.export.plan import request_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """What of it, and what is done with the file."""
    add_export_options(parser)
    parser.add_argument("--upload", action="store_true", help="then make the file the recording's own")
    add_upload_options(parser)


def run(options: argparse.Namespace, form: str) -> int:
    """Write the file, unless only its upload is left to be done."""
    logs.set_up("warning", form)
    if "://" in options.address and not options.upload:
        export(request_of(options, options.address), options.file)
        return 0
    # It knows the settings and how to upload; to load all that takes longer than to export a short clip.
    from broadcaster.admin_client import address_of, manage, upload_of  # noqa: PLC0415
    from broadcaster.config import load  # noqa: PLC0415

    upload = upload_of(options) if options.upload else None
    if not (upload and options.file.exists()):
        is_address = "://" in options.address
        address = options.address if is_address else address_of(load(), options.address, options.part)
        export(request_of(options, address), options.file)
    if upload:
        manage(upload)
    return 0
