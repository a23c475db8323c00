"""Stand-ins for the outside world, so that the whole service can run on one machine."""
