"""What the operator sees and does, on a listener of its own.

``app`` has its routes, ``history`` the last hour, ``variants`` how each is getting on, ``recordings`` what
can be done with those, by who has the ``token``; ``files`` and ``uploads`` are about the file that a
recording may have.
"""

from broadcaster.admin.app import make_operator_app, own_token, stored_token, token_file
from broadcaster.admin.history import History, VariantTable
from broadcaster.recordings.admin_api import Desk
from broadcaster.recordings.file_uploads import Uploads

__all__ = [
    "Desk",
    "History",
    "Uploads",
    "VariantTable",
    "make_operator_app",
    "own_token",
    "stored_token",
    "token_file",
]
