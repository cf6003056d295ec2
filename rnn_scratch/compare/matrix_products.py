"""The matrix products of training and nothing else, which are the limit beside every speed."""

from collections.abc import Callable, Sequence

import numpy as np

from ..contract import CELLS, Tensor
from ..runs.setup import Setup


def of_minibatch(setup: Setup) -> Callable[[], Sequence[Tensor]]:
    """A function that multiplies what a minibatch of training cannot do without, and returns it.

    For each time step the products of the cell in the forward pass, (B, H) @ (H, G*H) for G gates,
    and in the backward pass, (B, G*H) @ (G*H, H). For all time steps at once those of the output
    layer and, if there is one, of the embedding's layer, forward and backward. And the gradient of
    each of these weights, for all steps at once. One-hot vectors need none: their products are rows
    of the weights.
    """
    machine, options = setup.backend.machine, setup.model.options
    random = np.random.RandomState(0)
    B, T = setup.settings.batch_size, setup.settings.num_steps
    B //= setup.runtime.workers  # each has its share of the rows
    V, H, N = options.vocab_size, options.num_hiddens, options.embedding
    gates = CELLS[options.cell].products

    def tensor(*shape: int) -> Tensor:
        return machine.tensor(
            random.normal(0, shape[0] ** -0.5, shape).astype(options.dtype), options.device
        )

    def layer(inputs: int, outputs: int) -> list[tuple[Tensor, list[Tensor]]]:
        there_and_back = [tensor(inputs, outputs), tensor(outputs, inputs)]
        gradient = tensor(inputs, T * B), [tensor(T * B, outputs)]
        return [(tensor(T * B, inputs), there_and_back), gradient]

    before, chain, chains = tensor(H, T * B), list[Tensor](), layer(H, V)
    for G in gates:
        W = tensor(H, G * H)
        chain += [W, tensor(G * H, H) if G > 1 else W]
        chains.append((before, [tensor(T * B, G * H)]))
    chains.append((tensor(B, H), chain * T))
    if N:
        chains += layer(N, sum(gates) * H)
    return lambda: [machine.multiply(left, matrices) for left, matrices in chains]
