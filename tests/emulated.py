"""An "emu" device for each framework, emulated on the CPU, for tests on machines without a GPU.

As on a GPU, the device's tensors cannot be combined with CPU tensors. A process gets the device if
its PYTHONPATH contains this folder and a `sitecustomize` that calls `install`; backend files stay
unchanged. `transfers` counts copies to and from the device.
"""

import contextlib
import functools
import importlib.machinery
import sys
from collections import Counter
from types import SimpleNamespace

DEVICE = "emu"
transfers = Counter()  # number of copies by direction, "to device" or "to host"
explicit = contextlib.nullcontext  # context in which JAX forbids implicit copies to the host


def install():
    """Add the device to the `machine` module of each backend imported after this call."""
    sys.meta_path.insert(0, SimpleNamespace(find_spec=find_spec))


def find_spec(name, path=None, target=None):
    """Return a spec whose loader adds the device to a `machine` module; None for other modules."""
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
    """Wrap a function so that each call increments `transfers[direction]`."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        transfers[direction] += 1
        return function(*args, **kwargs)

    return call


def count_conversions(machine):
    """Count the copies that a backend's `tensor` and `array` functions make."""
    machine.tensor = counted(machine.tensor, "to device")
    machine.array = counted(machine.array, "to host")


def jax(machine):
    """Emulate the device with a second CPU; JAX rejects operations across devices."""
    from jax._src.array import ArrayImpl

    global explicit
    jax = machine.jax
    jax.config.update("jax_num_cpu_devices", 2)
    machine.get_device = lambda device, rank=None: jax.devices("cpu")[device == DEVICE]
    explicit = functools.partial(jax.transfer_guard_device_to_host, "disallow")
    count_conversions(machine)
    ArrayImpl._value = property(counted(ArrayImpl._value.fget, "to host"))  # float() reads it


def mxnet(machine):
    """Emulate the device with a second CPU context; most operations reject mixed contexts."""
    machine.context = lambda device: machine.mxnet.cpu(int(device == DEVICE))
    library = machine.mxnet.base._LIB
    library.MXNDArraySyncCopyFromCPU = counted(library.MXNDArraySyncCopyFromCPU, "to device")
    library.MXNDArraySyncCopyToCPU = counted(library.MXNDArraySyncCopyToCPU, "to host")


def tensorflow(machine):
    """Emulate the device with a second logical CPU, which, like a GPU, is the default device."""
    tf = machine.tf
    (cpu,), config = tf.config.list_physical_devices("CPU"), tf.config.experimental
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    @contextlib.contextmanager
    def device_scope(device):
        policy = config.get_device_policy()
        config.set_device_policy("silent_for_int32")  # copying other types raises an error
        try:
            with tf.device(f"/CPU:{int(device == DEVICE)}"):
                yield
        finally:
            config.set_device_policy(policy)

    @functools.cache
    def devices(dtype):
        tf.device("/CPU:1").__enter__()  # fixes the thread count, so it must not run on import
        return [DEVICE, "cpu"]

    machine.device_scope, machine.devices = device_scope, devices
    count_conversions(machine)
    kind = tf.__internal__.EagerTensor.__base__
    kind._numpy = counted(kind._numpy, "to host")  # float() calls this method


def fused_cells(torch):
    """Return implementations of the operations that nn.LSTM and nn.GRU use only on accelerators."""

    def lstm(x, h, c, b_x, b_h):
        i, f, c_tilde, o = (x + h + b_x + b_h).chunk(4, 1)
        i, f, c_tilde, o = i.sigmoid(), f.sigmoid(), c_tilde.tanh(), o.sigmoid()
        next_c = f * c + i * c_tilde
        return o * next_c.tanh(), next_c, torch.cat([i, f, c_tilde, o], 1)

    def lstm_backward(d_h, d_c, c, next_c, gates, has_bias):
        i, f, c_tilde, o = gates.chunk(4, 1)
        output = next_c.tanh()
        d_c = (0 if d_c is None else d_c) + (0 if d_h is None else d_h * o * (1 - output**2))
        d_o = torch.zeros_like(o) if d_h is None else d_h * output * o * (1 - o)
        d_c_tilde = d_c * i * (1 - c_tilde**2)
        dz = torch.cat((d_c * c_tilde * i * (1 - i), d_c * c * f * (1 - f), d_c_tilde, d_o), 1)
        return dz, d_c * f, dz.sum(0)

    def gru(x, h, state, b_x, b_h):
        (x_r, x_z, x_h), (h_r, h_z, product) = (x + b_x).chunk(3, 1), (h + b_h).chunk(3, 1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        h_tilde = (x_h + r * product).tanh()
        return h_tilde + z * (state - h_tilde), torch.cat([r, z, h_tilde, state, product], 1)

    def gru_backward(d_h, cache, has_bias):
        r, z, h_tilde, state, product = cache.chunk(5, 1)
        d_h_tilde = d_h * (1 - z) * (1 - h_tilde**2)
        d_r, d_z = d_h_tilde * product * r * (1 - r), d_h * (state - h_tilde) * z * (1 - z)
        dx, dh = torch.cat([d_r, d_z, d_h_tilde], 1), torch.cat([d_r, d_z, d_h_tilde * r], 1)
        return dx, dh, d_h * z, dx.sum(0), dh.sum(0)

    return {
        "_thnn_fused_lstm_cell": lstm,
        "_thnn_fused_lstm_cell_backward_impl": lstm_backward,
        "_thnn_fused_gru_cell": gru,
        "_thnn_fused_gru_cell_backward": gru_backward,
    }


def torch(machine):
    """Emulate the device with a tensor class that wraps CPU tensors and computes with them.

    A dispatch mode intercepts every operation: it wraps tensors on the device and raises an error
    if an operation combines them with CPU tensors.
    """
    torch = machine.torch
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    torch._C._set_only_lift_cpu_tensors(True)  # lets the mode intercept torch.tensor's copies

    def compute(owner, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, device = function.__name__.split(".")[0], kwargs.get("device")
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        emulated = [tensor for tensor in tensors if isinstance(tensor, Emulated)]
        default = DEVICE if emulated else "cpu"
        target = torch.device(device).type if device is not None else default
        if name in ("_to_copy", "copy_", "_local_scalar_dense"):
            *into, source = tensors
            target = into[0].device.type if into else target if name == "_to_copy" else "cpu"
            if source.device.type != target:
                transfers["to device" if target == DEVICE else "to host"] += 1
        elif 0 < len(emulated) < len(tensors):
            transfers["to device"] += 1  # a scalar, which is copied to a GPU for each operation
            if any(tensor.dim() for tensor in tensors if not isinstance(tensor, Emulated)):
                raise RuntimeError(f"{name}: tensors on different devices, {DEVICE} and cpu")
        kwargs = {**kwargs, "device": "cpu"} if "device" in kwargs else kwargs
        result = cells.get(name, function)(*map_(unwrap, args), **map_(unwrap, kwargs))
        if emulated and function._schema.is_mutable and result is emulated[0].inner:
            return emulated[0]
        return map_(wrap, result) if target == DEVICE else result

    def wrap(value):
        return Emulated(value) if isinstance(value, torch.Tensor) else value

    def unwrap(value):
        return value.inner if isinstance(value, Emulated) else value

    class Emulated(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
            factory_kwargs = {"dtype": inner.dtype, "device": f"{DEVICE}:0"}
            tensor = cls._make_wrapper_subclass(cls, inner.size(), **layout, **factory_kwargs)
            tensor.inner = inner
            return tensor

        __torch_dispatch__ = classmethod(compute)

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        __torch_dispatch__ = compute

    cells, tree = fused_cells(torch), torch.utils._pytree
    leaves, map_ = tree.tree_leaves, tree.tree_map
    Mode().__enter__()


FRAMEWORKS = {"jax": jax, "mxnet": mxnet, "tf": tensorflow, "torch": torch}
