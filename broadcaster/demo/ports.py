"""Loopback ports that nobody has, for children that are about to start."""

from __future__ import annotations

import random
import socket
import sys

from broadcaster.errors import DemoError

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS also listens on each of its ports plus this
# Below 22768 a port and its companion 10000 above it both lie under Linux's range of ephemeral ports, so no
# outgoing connection can take one between our look and the child's bind. No companion is in the range itself.
PORTS = range(12_000, 22_000)
_CLAIMS: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Return that many different loopback ports, each free, and free 10000 above it too.

    Raises DemoError when there are not enough.
    """
    candidates = random.sample(PORTS, k=len(PORTS))
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        if is_free(port) and is_free(port + GRPC_OFFSET) and _claim(port):
            found.append(port)
    if len(found) < count:
        raise DemoError(f"there are no {count} free ports on {HOST}")
    return found


def _claim(port: int) -> bool:
    """Whether no other process of ours has chosen the port and not bound it yet; held until we end."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0broadcaster-demo-port-{port}")  # an abstract name, which goes with its process
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True


def require_free(port: int) -> None:
    """Raise DemoError when somebody listens on that loopback port, or when there is no such port."""
    if not 0 < port < 65536:  # noqa: PLR2004 - the range of ports
        raise DemoError(f"there is no port {port}")
    if not is_free(port):
        raise DemoError(f"port {port} on {HOST} is taken")


def is_free(port: int) -> bool:
    """Whether nobody listens on that loopback port."""
    with socket.socket() as attempt:
        # As servers do: connections of a predecessor that still linger in the kernel are no obstacle.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True
