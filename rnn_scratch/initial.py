"""Names, shapes and starting values of the parameters, the same for every backend."""

import numpy as np

from .chance import generator
from .contract import Arrays


def shapes(vocab_size: int, num_hiddens: int, embedding: int = 0) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in the order in which the parameters are drawn.

    `embedding` is the size of a learnable embedding, W_e; with 0, inputs are one-hot vectors.
    """
    return {
        **({"W_e": (vocab_size, embedding)} if embedding else {}),
        "W_xh": (embedding or vocab_size, num_hiddens),
        "W_hh": (num_hiddens, num_hiddens),
        "b_h": (num_hiddens,),
        "W_hq": (num_hiddens, vocab_size),
        "b_q": (vocab_size,),
    }


def initial(
    vocab_size: int, num_hiddens: int, sigma: float, seed: int, embedding: int = 0
) -> Arrays:
    """Starting values in float64: weights normal with standard deviation sigma, biases zero."""
    chance = generator(seed, "initial")
    return {
        name: chance.normal(0, sigma, shape) if name.startswith("W") else np.zeros(shape)
        for name, shape in shapes(vocab_size, num_hiddens, embedding).items()
    }
