"""The operator's HTTP listener: ``app`` has the routes, ``dashboard`` the page, ``history`` the last hour."""

from broadcaster.admin.app import make_operator_app, own_token, stored_token, token_file
from broadcaster.admin.history import History, VariantTable
from broadcaster.recordings.admin_api import RecordingsAdmin
from broadcaster.recordings.file_uploads import Uploads

__all__ = [
    "History",
    "RecordingsAdmin",
    "Uploads",
    "VariantTable",
    "make_operator_app",
    "own_token",
    "stored_token",
    "token_file",
]
