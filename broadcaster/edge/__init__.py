"""The edge tier: a Worker at Cloudflare that answers all viewers with what the service pushes to it.

``client`` speaks to the Worker; ``publisher`` decides what is pushed, and when.
"""

from broadcaster.edge.client import MAX_PUSH, PROBE, VERSION, EdgeAnswer, EdgeClient, encode, open_edge
from broadcaster.edge.publisher import EdgePublisher

__all__ = ["MAX_PUSH", "PROBE", "VERSION", "EdgeAnswer", "EdgeClient", "EdgePublisher", "encode", "open_edge"]
