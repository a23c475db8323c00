"""What the operator sees, on a listener of its own: ``app`` has its routes, ``history`` the last hour."""

from broadcaster.operator.app import make_operator_app
from broadcaster.operator.history import History

__all__ = ["History", "make_operator_app"]
