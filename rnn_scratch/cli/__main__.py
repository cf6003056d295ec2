"""Starts the command line: the command `rnn-scratch`, and `python -m rnn_scratch.cli`."""

import os
import signal


def start() -> None:
    """Let signals stop the command without a traceback from the first moment on, and run it."""
    try:
        from ..system import signals

        signals.install()
        from .main import main
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    main()


if __name__ == "__main__":
    start()
