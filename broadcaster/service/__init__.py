"""Wiring of the service: ``components`` builds the parts, ``serve`` runs them, ``health`` evaluates them."""

from broadcaster.service.components import bucket_of, lease_secret, shared_settings
from broadcaster.service.serve import serve

__all__ = ["bucket_of", "lease_secret", "serve", "shared_settings"]
