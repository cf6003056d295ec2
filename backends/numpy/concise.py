"""NumPy has no layers of its own, so there is no concise model here, and this says so."""

from rnn_scratch.contract import RNNScratchError


def build(arrays, options):
    """Raise RNNScratchError: there is no layer to build the model on."""
    raise RNNScratchError(
        "NumPy has no recurrent layer of its own, so there is no concise model for it.\n"
        "Use --model scratch, or another backend."
    )
