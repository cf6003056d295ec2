"""Let `pip install -e .` write a path file, because type checkers do not follow import hooks."""

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class PathFile(editable_wheel):
    """Install the clone's folder, in which `rnn_scratch` itself finds the backends."""

    def finalize_options(self) -> None:
        """Replace the layout of pyproject.toml, for which setuptools writes an import hook."""
        self.distribution.package_dir = {"": "."}
        self.distribution.packages = ["rnn_scratch"]
        super().finalize_options()


setup(cmdclass={"editable_wheel": PathFile})
