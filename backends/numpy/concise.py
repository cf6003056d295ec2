"""NumPy has no built-in layers, so `build` raises RNNScratchError."""

from rnn_scratch.contract import RNNScratchError


def build(arrays, options):
    """Raise RNNScratchError, because NumPy has no built-in layers."""
    raise RNNScratchError(
        "NumPy has no recurrent layer of its own, so there is no concise model for it.\n"
        "Use --model scratch or another backend."
    )
