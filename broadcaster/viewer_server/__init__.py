"""The viewer server: the process that answers viewers. It has no keys, and serves what ingest sends to it."""
