"""What all clients of buckets share: a session that knows nothing but what it is given."""

from __future__ import annotations

from functools import cache
from typing import Any

from aiobotocore.session import AioSession
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider
from botocore.loaders import Loader


class _Session(AioSession):
    """One without profiles, files and variables of AWS, which are of other programs, and may be torn."""

    @property
    def profile(self) -> None:
        """There is none."""

    @property
    def full_config(self) -> dict[str, Any]:
        """What no file says."""
        return {"profiles": {}}

    def get_scoped_config(self) -> dict[str, Any]:
        """What no profile says."""
        return {}


@cache
def session() -> AioSession:
    """One for all clients, which have keys of their own: it reads for 0.1 s what botocore knows of S3."""
    made = _Session()
    settings = made.get_component("config_store")
    for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        settings.set_config_provider(name, ConstantProvider(default))
    for name in ("s3", "proxies_config"):
        settings.set_config_provider(name, ConstantProvider(None))
    packaged = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    made.register_component("data_loader", packaged)
    return made
