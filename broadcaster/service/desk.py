"""What an operator can do with recordings and clips, from the parts that do it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Any

from broadcaster.config import Settings
from broadcaster.delivery.rebuild import rebuild
from broadcaster.delivery.strays import sweep
from broadcaster.feed import View
from broadcaster.hls import MultivariantPlaylist
from broadcaster.operator import Desk, Uploads, VariantTable, own_token, token_file
from broadcaster.owner import owner_key
from broadcaster.service.components import Components
from broadcaster.service.guest_check import told_page
from broadcaster.service.state_folder import state_folder


def desk_of(components: Components, settings: Settings, address: str) -> Desk:
    """For who has the token; ``address`` is where viewers are served. Raises ConfigError."""
    store, catalog, prefix = components.store, components.catalog, settings.prefix
    with state_folder(settings):
        token = own_token(settings.state_dir)
    owners = {owner_key(one) for one in catalog.prefixes(prefix)}  # we were each of them
    return Desk(
        token,
        catalog,
        components.recorder.tell,
        sweep=lambda dry_run: sweep(store, catalog, prefix, owners, dry_run=dry_run),
        rebuild=lambda: rebuild(store, catalog, prefix),
        newest=lambda: newest(components.channel.view),
        page=partial(asyncio.to_thread, page_address, settings, address),
        uploads=Uploads(store, catalog, prefix, components.recorder.tell),
        folder=f"{settings.public_url}/{prefix}/recordings/" if settings.urls == "public" else None,
    )


def told_to_operator(components: Components, settings: Settings, variants: VariantTable) -> dict[str, Any]:
    """What the dashboard has on the operator's own listener alone; ``newest`` in milliseconds."""
    view = components.channel.view
    end = newest(view)
    main = view.main.playlist if view.main else None
    described = main.variants if isinstance(main, MultivariantPlaylist) else ()
    named = {one.uri.partition("/")[0]: name for one, name in zip(described, view.qualities, strict=True)}
    return {
        "tokenFile": str(token_file(settings.state_dir.absolute())),
        "newest": end and 1000 * end.timestamp(),
        "table": [variants.row(name) | {"quality": named.get(name, name)} for name in view.playlists],
    }


def newest(view: View) -> datetime | None:
    """Up to when all variants have come, as viewers are told; None before a stream."""
    last = [one.playlist.segments[-1] for one in view.playlists.values() if one.playlist.segments]
    return min((one.program_date_time + one.duration for one in last if one.program_date_time), default=None)


def page_address(settings: Settings, address: str) -> str | None:
    """The live page's own, as the operator has told it, else ``address``; None where there are no pages."""
    return (told_page(settings) or address) if settings.has_pages else None
