"""Listening sockets."""

import errno
import socket
from contextlib import ExitStack

import pytest

from broadcaster.errors import ConfigError
from broadcaster.http import address_of, listening_sockets


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener has IPv4 addresses only; an IPv6 address is an error."""
    create = socket.create_server

    def without(address: tuple[str, int], *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", without)
    for connection in listening_sockets("", 0, "--listen"):
        with connection:
            assert connection.family == socket.AF_INET
    with pytest.raises(ConfigError, match="--listen: ::1:0 cannot be had: Address family not supported"):
        listening_sockets("::1", 0, "--listen")


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
@pytest.mark.parametrize("host", ["::", ""])
def test_every_address(host: str) -> None:
    """``::`` is both families at one port, and IPv4 clients have IPv4 addresses."""
    with ExitStack() as stack:
        for connection in listening_sockets(host, 0, "BROADCASTER_HOST"):
            stack.enter_context(connection)
            port = connection.getsockname()[1]
        for own in ("127.0.0.1", "::1"):
            with socket.create_connection((own, port), timeout=5):
                pass
        with pytest.raises(ConfigError, match=f"BROADCASTER_HOST: 127.0.0.1:{port} cannot be had"):
            listening_sockets("127.0.0.1", port, "BROADCASTER_HOST")


def test_the_url_of_a_listener() -> None:
    """An IPv6 address has brackets."""
    (connection,) = listening_sockets("::1", 0, "--listen")
    with connection:
        assert address_of([connection]) == f"http://[::1]:{connection.getsockname()[1]}"
