"""Names, shapes and starting values of the parameters, the same for every backend."""

import numpy as np

from .contract import CELLS, Arrays
from .randomness import generator


def shapes(
    vocab_size: int, num_hiddens: int, embedding: int = 0, cell: str = "rnn"
) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in the order in which the parameters are drawn.

    `embedding` is the size of a learnable embedding, W_e; with 0, inputs are one-hot vectors.
    """
    result: dict[str, tuple[int, ...]] = {"W_e": (vocab_size, embedding)} if embedding else {}
    for gate in CELLS[cell].gates:
        result[f"W_x{gate}"] = (embedding or vocab_size, num_hiddens)
        result[f"W_h{gate}"] = (num_hiddens, num_hiddens)
        result[f"b_{gate}"] = (num_hiddens,)
    return result | {"W_hq": (num_hiddens, vocab_size), "b_q": (vocab_size,)}


def initial(
    vocab_size: int,
    num_hiddens: int,
    sigma: float,
    seed: int,
    embedding: int = 0,
    cell: str = "rnn",
) -> Arrays:
    """Starting values in float64: weights normal with standard deviation sigma, biases zero."""
    chance = generator(seed, "initial")
    return {
        name: chance.normal(0, sigma, shape) if name.startswith("W") else np.zeros(shape)
        for name, shape in shapes(vocab_size, num_hiddens, embedding, cell).items()
    }
