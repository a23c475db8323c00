"""The operator's HTTP listener: ``app`` has the routes and the dashboard, ``history`` the last hour."""

from broadcaster.admin.app import (
    Access,
    Dashboard,
    Lead,
    make_operator_app,
    own_token,
    stored_token,
    token_file,
)
from broadcaster.admin.history import History, VariantTable

__all__ = [
    "Access",
    "Dashboard",
    "History",
    "Lead",
    "VariantTable",
    "make_operator_app",
    "own_token",
    "stored_token",
    "token_file",
]
