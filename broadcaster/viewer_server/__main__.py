"""The process: ``python -m broadcaster.viewer_server FEED LISTENING...``, the numbers of its open sockets."""

import gc
import sys

from broadcaster.printable import show_exceptions

if __name__ == "__main__":
    show_exceptions()
    gc.disable()  # until the server is ready: what is imported stays, and to look through it takes time
    from broadcaster.viewer_server.process import main

    main(sys.argv[1:])
