"""``broadcaster demo``: an embedded bucket and encoder, so that the service runs on one machine."""
