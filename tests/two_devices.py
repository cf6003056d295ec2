"""A backend with two devices, for machines without a GPU: NumPy's, with arrays that have a place.

It computes on "gpu" and on "cpu". As in a framework, tensors on different devices cannot be
combined, nor can tensors and NumPy arrays: whatever assumes the CPU fails.
"""

from pathlib import Path

import numpy as np

SOURCE = Path(__file__)
# In NumPy's own source: where it makes arrays, they get the device.
CHANGES = {
    "scratch.py": (
        "values.astype(options.dtype)",
        "tensor(values.astype(options.dtype), options.device)",
        'np.eye(len(params["b_q"]), dtype=params["b_q"].dtype)[tokens]',
        'tensor(np.eye(len(params["b_q"]), dtype=params["b_q"].dtype), params["b_q"].device)'
        "[tokens]",
    ),
    "cells.py": (),
    "deep.py": (),
    "workers.py": (),
    "machine.py": (
        "import threadpoolctl\n",
        "import threadpoolctl\n\nfrom .two_devices import Tensor\n",
        'return ["cpu"]',
        'return ["gpu", "cpu"]',
        "    return array\n",
        "    return Tensor.on(device, array)\n",
        "    return tensor\n",
        "    return np.array(tensor)\n",
        '{"numpy": ',
        '{"two": np.__version__, "numpy": ',
    ),
}


class Tensor(np.ndarray):
    """An array on a device; combined with what is not on it, it raises."""

    device = None

    @classmethod
    def on(cls, device, array):
        """The array as a tensor on the device."""
        tensor = np.array(array).view(cls)
        tensor.device = device
        return tensor

    def __array_finalize__(self, other):
        """A view is where the whole is."""
        self.device = getattr(other, "device", None)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        """Compute what needs no other device."""
        device = _device([*inputs, *out])
        if out:
            kwargs["out"] = tuple(map(_plain, out))
        return _placed(getattr(ufunc, method)(*map(_plain, inputs), **kwargs), device)

    def __array_function__(self, function, types, arguments, kwargs):
        """Likewise."""
        values = []
        _mapped(values.append, arguments)
        device = _device(values)
        result = function(*_mapped(_plain, arguments), **kwargs)
        return _mapped(lambda value: _placed(value, device), result)


def _device(values):
    arrays = [value for value in values if isinstance(value, np.ndarray) and value.ndim]
    devices = {getattr(array, "device", "an array of NumPy's") for array in arrays}
    if len(devices) > 1:
        raise RuntimeError(f"tensors on different devices: {sorted(map(str, devices))}")
    return next(iter(devices), None)


def _mapped(function, value):
    # Of a list or tuple, of all that is in it.
    if isinstance(value, list | tuple):
        return type(value)(_mapped(function, item) for item in value)
    return function(value)


def _plain(value):
    return value.view(np.ndarray) if isinstance(value, Tensor) else value


def _placed(value, device):
    if not isinstance(value, np.ndarray):
        return value
    tensor = value.view(Tensor)
    tensor.device = device
    return tensor


def source_files():
    """The files of the backend's package: names and contents."""
    import rnn_scratch.backends.numpy as numpy

    from rnn_scratch.check.mistakes import changed

    files = {"two_devices.py": SOURCE.read_text(encoding="utf-8")}
    files["__init__.py"] = "from . import cells, deep, machine, scratch\n"
    for name, change in CHANGES.items():
        text = Path(numpy.__file__).with_name(name).read_text(encoding="utf-8")
        files[name] = changed(text, change, f"NumPy's {name}")
    return files
