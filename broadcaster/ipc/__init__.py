"""Messages between ingest and the viewer server, and the metrics that ingest accepts from it."""
