"""Wiring of the service: ``components`` builds the parts, ``serve`` runs them, ``health`` evaluates them."""

from broadcaster.service.components import bucket_of, lease_secret, peppers_of, shared_settings
from broadcaster.service.serve import serve

__all__ = ["bucket_of", "lease_secret", "peppers_of", "serve", "shared_settings"]
