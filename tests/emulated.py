"""An "emu" device for tests on machines without a GPU: a second CPU of a framework.

As on a GPU, the device's tensors cannot be combined with CPU tensors. A process gets the device if
its PYTHONPATH contains this folder and a `sitecustomize` that calls `install`; backend files stay
unchanged. PyTorch has no second CPU. As a program, the module checks a package of a backend.
"""

import contextlib
import functools
import importlib.machinery
import sys
from types import SimpleNamespace

DEVICE = "emu"
# Devices to check. In TensorFlow, operations default to the emulated device, so check the CPU, too.
DEVICES = {"jax": (DEVICE,), "mxnet": (DEVICE,), "tensorflow": (DEVICE, "cpu")}


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


def jax(machine):
    """Emulate the device with a second CPU; JAX rejects operations across devices."""
    jax = machine.jax
    jax.config.update("jax_num_cpu_devices", 2)
    machine.get_device = lambda device, rank=None: jax.devices("cpu")[device == DEVICE]


def mxnet(machine):
    """Emulate the device with a second CPU context; most operations reject mixed contexts."""
    machine.context = lambda device: machine.mxnet.cpu(int(device == DEVICE))


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


FRAMEWORKS = {"jax": jax, "mxnet": mxnet, "tf": tensorflow}


def main(package, name):
    """Check `scratch` of a package on the backend's devices; print the first failure, if any."""
    from rnn_scratch import registry
    from rnn_scratch.check import runner
    from rnn_scratch.check.draws import CaseSpec
    from rnn_scratch.contract import ModelConfig

    backend = registry.assemble(name, importlib.import_module(package))
    backend.machine.set_threads(1)  # must precede the first computation
    plain = ModelConfig(11, 13)
    deep = ModelConfig(11, 13, "lstm", embedding=5, num_layers=2, dropout=0.4)
    for device in DEVICES[name]:
        cases = [
            CaseSpec(plain._replace(device=device)),
            CaseSpec(deep._replace(device=device), optimizer="adam"),
        ]
        for row in runner.check(backend, "scratch", cases):
            if not row.passed:
                return print(f"{row.function}: {row.sentence}")
    print("passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
