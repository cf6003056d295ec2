"""The package layout: modules import only from earlier levels."""

import ast
import importlib
from pathlib import Path

import pytest
from helpers import run_subprocess

import rnn_scratch

CORE = Path(rnn_scratch.__file__).parent
REPOSITORY = CORE.parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "mxnet", "jax", "flax"}

# Top-level modules and folders by level: each imports only from earlier levels and from itself.
ORDER = (
    ("errors",),
    ("randomness",),
    ("system",),
    ("contract",),
    ("extensions",),
    ("exact",),
    ("settings",),
    ("parameters",),
    ("steps", "kit"),
    ("registry",),
    ("workers",),
    ("text",),
    ("training",),
    ("runs",),
    ("api",),
    ("check",),
    ("compare",),
    ("show", "play"),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def name_module(path):
    """Return a module's dotted name or, for an ``__init__``, its package's name."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


# Modules by name, except the package itself, which imports the public names lazily, and
# `__main__`, which starts `cli`.
MODULES = {name_module(p): p for p in CORE.rglob("*.py") if p.parent != CORE / "backends"}
del MODULES[CORE.name], MODULES[f"{CORE.name}.__main__"]


def imports(path):
    """Yield the absolute names that a module imports, including those imported within functions."""
    package = list(path.relative_to(REPOSITORY).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # each name is a submodule, or is defined in `prefix`
                full_name = f"{prefix}.{alias.name}"
                yield full_name if full_name in MODULES else prefix


def test_modules_import_only_from_earlier_levels():
    rooms = {module: module.split(".")[1] for module in MODULES}
    assert set(rooms.values()) == set(LEVEL)
    for module, path in MODULES.items():
        importer = rooms[module]
        for imported in set(imports(path)) & set(MODULES):
            target = rooms[imported]
            assert target == importer or LEVEL[target] < LEVEL[importer], (
                f"{module} imports {imported}"
            )


def test_core_imports_no_framework():
    for path in MODULES.values():
        names = list(imports(path))
        assert not {name.split(".")[0] for name in names} & {*FRAMEWORKS, "backends", "make"}, path
        assert not any(name.startswith(f"{CORE.name}.backends") for name in names), path


def test_backends_import_only_allowed_modules():
    names = ("contract", "exact", "parameters", "system", "backends")
    allowed = {f"{CORE.name}.{name}" for name in names}
    for path in (REPOSITORY / "backends").rglob("*.py"):
        core = {name for name in imports(path) if name.startswith(f"{CORE.name}.")}
        assert {".".join(name.split(".")[:2]) for name in core} <= allowed, path


def test_no_importable_folder_is_named_like_a_framework():
    # Python would import such a folder in the current directory instead of the framework.
    notebooks = REPOSITORY / "notebooks"
    for folder in (REPOSITORY, REPOSITORY / "tests", notebooks, notebooks / "support"):
        assert not {path.name for path in folder.iterdir() if path.is_dir()} & FRAMEWORKS, folder


# Modules that a command must not import: it does not use them, and importing them takes time.
UNUSED = {
    "--help": ("numpy", "msgspec", "rich", "rnn_scratch.api", "rnn_scratch.settings"),
    "--version": ("numpy", "msgspec", "rich", "rnn_scratch.api", "rnn_scratch.settings"),
    "runs": ("jinja2", "pygments", "rnn_scratch.api", "rnn_scratch.check", "rnn_scratch.compare"),
    "show step": ("jinja2", "safetensors", "rnn_scratch.api", "rnn_scratch.training"),
    "train --help": ("jinja2", "pygments", "rnn_scratch.check", "rnn_scratch.compare"),
    "predict --help": ("jinja2", "pygments", "rnn_scratch.check", "rnn_scratch.compare"),
    "check --help": ("jinja2", "rnn_scratch.compare", "rnn_scratch.play"),
    "report --help": ("pygments", "rnn_scratch.play", "rnn_scratch.show"),
}
LIST_MODULES = """
import sys
from rnn_scratch.cli.main import main
try:
    main()
except SystemExit as error:
    assert not error.code
print("", *sys.modules, sep="\\f")
"""


@pytest.mark.parametrize("command", UNUSED)
def test_commands_do_not_import_what_they_do_not_use(command, tmp_path):
    program = ("-c", LIST_MODULES)
    result = run_subprocess(*command.split(), program=program, cwd=tmp_path).assert_exit()
    output, *modules = result.out.strip().split("\f")
    assert output
    assert "rnn_scratch.cli.main" in modules
    assert {*modules} & {*UNUSED[command], *FRAMEWORKS} == set()


MEASUREMENTS = sorted(path.stem for path in (REPOSITORY / "notebooks/measure").glob("[!_]*.py"))


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_can_be_imported(name):
    importlib.import_module(f"measure.{name}")
