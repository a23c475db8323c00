"""What the operator sees and does, on a listener of its own.

``app`` has its routes, ``history`` the last hour, ``variants`` how each is getting on, ``recordings`` what
can be done with those, by who has the ``token``; ``files`` and ``uploads`` are about the file that a
recording may have.
"""

from broadcaster.operator.app import make_operator_app
from broadcaster.operator.desk import Desk
from broadcaster.operator.history import History
from broadcaster.operator.token import own_token, stored_token, token_file
from broadcaster.operator.uploads import Uploads
from broadcaster.operator.variants import VariantTable

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
