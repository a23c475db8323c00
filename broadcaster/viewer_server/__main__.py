"""``python -m broadcaster.viewer_server CHANNEL LISTENER...``, with descriptors of open sockets."""

import gc
import sys

from broadcaster.printable import show_exceptions

if __name__ == "__main__":
    show_exceptions()
    gc.disable()  # until the server is ready: a collection has to traverse all imported modules
    from broadcaster.viewer_server.process import main

    main(sys.argv[1:])
