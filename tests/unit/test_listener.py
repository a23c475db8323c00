"""Sockets that listen."""

import errno
import socket

import pytest

from broadcaster.errors import ConfigError
from broadcaster.web import bound


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address is one of IPv4 there; who asks for another one is told."""
    create = socket.create_server

    def without(address: tuple[str, int], *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", without)
    for one in bound("", 0, "--listen"):
        with one:
            assert one.family == socket.AF_INET
    with pytest.raises(ConfigError, match="--listen: ::1:0 cannot be had: Address family not supported"):
        bound("::1", 0, "--listen")
