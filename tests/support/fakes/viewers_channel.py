"""What viewers see of a channel, by way of the feed, without a second process."""

from collections.abc import Callable
from datetime import datetime

from broadcaster.ipc.messages import View, ViewDelta, decode, encode, view_delta
from broadcaster.viewer_server.snapshots import ServedStream
from broadcaster.viewer_server.snapshots import now as wall_time


class ViewersChannel(ServedStream):
    """A stream that takes each new view of a channel: ``Channel(..., show=shown.follow)``."""

    def __init__(self, view: View | None = None, clock: Callable[[], datetime] = wall_time) -> None:
        super().__init__(clock)
        self._sent = View()
        if view:
            self.follow(view)

    def follow(self, view: View) -> None:
        """Each decision is sent in bytes, and shown."""
        message = decode(encode(view_delta(self._sent, view))[4:])
        self._sent = view
        assert isinstance(message, ViewDelta)
        self.apply(message)
        assert self.view == view
