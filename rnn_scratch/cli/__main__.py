"""Entry point for `rnn-scratch` and `python -m rnn_scratch.cli`."""

import os
import signal
import sys


def start() -> None:
    """Run the command line; Ctrl-C exits without a traceback, even during imports."""
    try:
        from ..errors import RNNScratchError
        from ..system import signals

        signals.install()
        from .main import main

        main()
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except RNNScratchError as error:
        # `main` could not import the settings, because another package's cell or optimizer is
        # invalid; it reports all other errors itself.
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    start()
