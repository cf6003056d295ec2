"""Starts the command line: the command `rnn-scratch`, and `python -m rnn_scratch.cli`."""

import os
import signal
import sys


def start() -> None:
    """Let signals stop the command without a traceback from the first moment on, and run it."""
    try:
        from ..system import signals

        signals.install()
        bytes(2**28)  # which takes no time; with less, the threads of OpenBLAS would wait forever
        from .main import main
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except MemoryError:
        print("Error: There is not enough memory: 256 MiB are needed.", file=sys.stderr)
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
