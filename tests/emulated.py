"""A second device for each framework, "emu", which computes on the CPU; for machines without a GPU.

Its tensors and those of the CPU cannot be combined, as on a GPU. `install` puts it beside the CPU
into every process whose PYTHONPATH has this folder and a `sitecustomize` that calls it; the backend
is the project's own. `transfers` counts what is copied from one device to the other.
"""

import contextlib
import functools
import importlib.machinery
import sys
from collections import Counter
from types import SimpleNamespace

DEVICE = "emu"
transfers = Counter()  # "to device" and "to host"
explicit = contextlib.nullcontext  # in it, JAX refuses copies that no call has asked for


def install():
    """Give the device to the `machine` of each backend that is imported from now on."""
    sys.meta_path.insert(0, SimpleNamespace(find_spec=find_spec))


def find_spec(name, path=None, target=None):
    """Find a `machine`, to be changed before anything can import a function from it."""
    spec = importlib.machinery.PathFinder.find_spec(name, path, target)
    if not spec or not name.endswith(".machine"):
        return None
    execute = spec.loader.exec_module

    def exec_module(module):
        execute(module)
        for framework, emulate in FRAMEWORKS.items():
            if framework in vars(module):
                module.devices = lambda dtype: [DEVICE, "cpu"]
                emulate(module)

    spec.loader.exec_module = exec_module
    return spec


def counted(function, direction):
    """The function, whose calls are counted."""

    @functools.wraps(function)
    def call(*arguments, **named):
        transfers[direction] += 1
        return function(*arguments, **named)

    return call


def count_conversions(machine):
    """Count what the backend itself converts."""
    machine.tensor = counted(machine.tensor, "to device")
    machine.array = counted(machine.array, "to host")


def jax(machine):
    """The second of two CPUs, which JAX refuses to combine with the first."""
    from jax._src.array import ArrayImpl

    global explicit
    jax = machine.jax
    jax.config.update("jax_num_cpu_devices", 2)
    machine.device_of = lambda device, rank=None: jax.devices("cpu")[device == DEVICE]
    explicit = functools.partial(jax.transfer_guard, "disallow")
    count_conversions(machine)
    ArrayImpl._value = property(counted(ArrayImpl._value.fget, "to host"))  # which float() reads


def mxnet(machine):
    """The second of MXNet's contexts of the CPU; many of its operations need one for all arrays."""
    machine.context = lambda device: machine.mxnet.cpu(int(device == DEVICE))
    library = machine.mxnet.base._LIB
    library.MXNDArraySyncCopyFromCPU = counted(library.MXNDArraySyncCopyFromCPU, "to device")
    library.MXNDArraySyncCopyToCPU = counted(library.MXNDArraySyncCopyToCPU, "to host")


def tensorflow(machine):
    """The second of two logical CPUs, on which TensorFlow computes by itself, as on a GPU."""
    tf = machine.tf
    (cpu,), config = tf.config.list_physical_devices("CPU"), tf.config.experimental
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    @contextlib.contextmanager
    def on(device):
        before = config.get_device_policy()
        config.set_device_policy("silent_for_int32")  # for other tensors, an error
        try:
            with tf.device(f"/CPU:{int(device == DEVICE)}"):
                yield
        finally:
            config.set_device_policy(before)

    @functools.cache
    def devices(dtype):
        tf.device("/CPU:1").__enter__()  # not before, as it fixes the number of threads
        return [DEVICE, "cpu"]

    machine.on, machine.devices = on, devices
    count_conversions(machine)
    kind = tf.__internal__.EagerTensor.__base__
    kind._numpy = counted(kind._numpy, "to host")  # which float() reads


def fused_cells(torch):
    """Functions in place of the operations that nn.LSTM and nn.GRU have on an accelerator only."""

    def lstm(x, h, c, b_x, b_h):
        i, f, new, o = (x + h + b_x + b_h).chunk(4, 1)
        i, f, new, o = i.sigmoid(), f.sigmoid(), new.tanh(), o.sigmoid()
        after = f * c + i * new
        return o * after.tanh(), after, torch.cat([i, f, new, o], 1)

    def lstm_back(d_h, d_c, c, after, gates, has_bias):
        i, f, new, o = gates.chunk(4, 1)
        output = after.tanh()
        d_c = (0 if d_c is None else d_c) + (0 if d_h is None else d_h * o * (1 - output**2))
        d_o = torch.zeros_like(o) if d_h is None else d_h * output * o * (1 - o)
        slopes = d_c * new * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - new**2), d_o
        dz = torch.cat(slopes, 1)
        return dz, d_c * f, dz.sum(0)

    def gru(x, h, before, b_x, b_h):
        (x_r, x_z, x_new), (h_r, h_z, to_reset) = (x + b_x).chunk(3, 1), (h + b_h).chunk(3, 1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        new = (x_new + r * to_reset).tanh()
        return new + z * (before - new), torch.cat([r, z, new, before, to_reset], 1)

    def gru_back(d_h, saved, has_bias):
        r, z, new, before, to_reset = saved.chunk(5, 1)
        d_new = d_h * (1 - z) * (1 - new**2)
        d_r, d_z = d_new * to_reset * r * (1 - r), d_h * (before - new) * z * (1 - z)
        dx, dh = torch.cat([d_r, d_z, d_new], 1), torch.cat([d_r, d_z, d_new * r], 1)
        return dx, dh, d_h * z, dx.sum(0), dh.sum(0)

    return {
        "_thnn_fused_lstm_cell": lstm,
        "_thnn_fused_lstm_cell_backward_impl": lstm_back,
        "_thnn_fused_gru_cell": gru,
        "_thnn_fused_gru_cell_backward": gru_back,
    }


def torch(machine):
    """Tensors of a class of their own, each with one of the CPU in it that computes.

    A mode sees every operation: it makes such tensors, and refuses to combine them with the CPU's.
    """
    torch = machine.torch
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(DEVICE)

    def compute(owner, function, types, arguments=(), named=None):
        named = named or {}
        name, device = function.__name__.split(".")[0], named.get("device")
        tensors = [each for each in leaves((arguments, named)) if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, Emulated)]
        target = torch.device(device).type if device is not None else DEVICE if there else "cpu"
        if name in ("_to_copy", "copy_", "_local_scalar_dense"):
            *into, source = tensors
            target = into[0].device.type if into else target if name == "_to_copy" else "cpu"
            if source.device.type != target:
                transfers["to device" if target == DEVICE else "to host"] += 1
        elif 0 < len(there) < len(tensors):
            transfers["to device"] += 1  # a number, which a GPU is sent each time
            if any(each.dim() for each in tensors if not isinstance(each, Emulated)):
                raise RuntimeError(f"{name}: tensors on different devices, {DEVICE} and cpu")
        named = {**named, "device": "cpu"} if "device" in named else named
        result = cells.get(name, function)(*map_(inner, arguments), **map_(inner, named))
        if there and function._schema.is_mutable and result is there[0].inner:
            return there[0]
        return map_(around, result) if target == DEVICE else result

    def around(each):
        return Emulated(each) if isinstance(each, torch.Tensor) else each

    def inner(each):
        return each.inner if isinstance(each, Emulated) else each

    class Emulated(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
            place = {"dtype": inner.dtype, "device": f"{DEVICE}:0"}
            tensor = cls._make_wrapper_subclass(cls, inner.size(), **layout, **place)
            tensor.inner = inner
            return tensor

        __torch_dispatch__ = classmethod(compute)

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        __torch_dispatch__ = compute

    cells, tree = fused_cells(torch), torch.utils._pytree
    leaves, map_ = tree.tree_leaves, tree.tree_map
    Mode().__enter__()


FRAMEWORKS = {"jax": jax, "mxnet": mxnet, "tf": tensorflow, "torch": torch}
