"""Let mypy hold the built-in backends' modules against the contract's protocols.

mypy finds a missing function, or one with another number of arguments, without any framework
installed; `rnn-scratch check` also compares the arguments' names.
"""

import backends.jax.concise
import backends.jax.deep
import backends.jax.exact
import backends.jax.fast
import backends.jax.machine
import backends.jax.scratch
import backends.mxnet.concise
import backends.mxnet.deep
import backends.mxnet.exact
import backends.mxnet.fast
import backends.mxnet.scratch
import backends.numpy.deep
import backends.numpy.exact
import backends.numpy.fast
import backends.numpy.scratch
import backends.tensorflow.concise
import backends.tensorflow.deep
import backends.tensorflow.exact
import backends.tensorflow.fast
import backends.tensorflow.machine
import backends.tensorflow.scratch
import backends.torch.concise
import backends.torch.deep
import backends.torch.exact
import backends.torch.fast
import backends.torch.scratch
from rnn_scratch.contract import BuiltVariant, Deep, Exact, Machine, Scratch

SCRATCH: list[Scratch] = [
    backends.jax.scratch,
    backends.mxnet.scratch,
    backends.numpy.scratch,
    backends.tensorflow.scratch,
    backends.torch.scratch,
]
DEEP: list[Deep] = [
    backends.jax.deep,
    backends.mxnet.deep,
    backends.numpy.deep,
    backends.tensorflow.deep,
    backends.torch.deep,
]
EXACT: list[Exact] = [
    backends.jax.exact,
    backends.mxnet.exact,
    backends.numpy.exact,
    backends.tensorflow.exact,
    backends.torch.exact,
]
VARIANTS: list[BuiltVariant] = [
    backends.jax.concise,
    backends.jax.fast,
    backends.mxnet.concise,
    backends.mxnet.fast,
    backends.numpy.fast,
    backends.tensorflow.concise,
    backends.tensorflow.fast,
    backends.torch.concise,
    backends.torch.fast,
]
# The other three use the contract's default for `jit`.
MACHINES: list[Machine] = [backends.jax.machine, backends.tensorflow.machine]
