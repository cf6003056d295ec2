"""Entry point for `rnn-scratch` and `python -m rnn_scratch.cli`."""

import os
import signal


def start() -> None:
    """Run the command line; Ctrl-C exits without a traceback, even during imports."""
    try:
        from ..system import signals

        signals.install()
        from .main import main
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    main()


if __name__ == "__main__":
    start()
