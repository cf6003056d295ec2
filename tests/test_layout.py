"""The layout of the package: imports go one way, names are unique, and modules stay small."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import rnn_scratch
from rnn_scratch.contract import CELLS, VARIANTS
from rnn_scratch.registry import OURS

CORE = Path(rnn_scratch.__file__).parent
REPOSITORY = CORE.parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "mxnet", "jax", "flax"}

# Each module or folder may import from those before it, and from its own folder.
ORDER = (
    ("contract",),
    ("randomness", "exact", "gates"),
    ("settings", "parameters"),
    ("system",),
    ("registry",),
    ("text",),
    ("runs",),
    ("workers",),
    ("check", "api"),
    ("compare",),
    ("show",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# The package itself offers the functions of `api`, when they are first used.
PACKAGE = "__init__"
MOST_LINES = 300  # that are not blank


def modules():
    return sorted(CORE.rglob("*.py"))


def sources():
    """All Python files that are part of the project, but not its tests."""
    return [
        *modules(),
        *(REPOSITORY / "backends").rglob("*.py"),
        *(REPOSITORY / "notebooks" / "make").rglob("*.py"),
    ]


def imports(path):
    """The absolute names of what a module imports, wherever in the module."""
    package = list(path.relative_to(REPOSITORY).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield prefix
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def room(path):
    """The module or folder at the top level of the package that a module belongs to."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def violations(path):
    """The imports of a module that go the wrong way."""
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != CORE.name or len(parts) < 2 or own == PACKAGE:
            continue
        target = parts[1]
        if target in LEVEL and target != own and LEVEL[target] >= LEVEL[own]:
            yield name


def name(path):
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name)
def test_imports_go_one_way(path):
    assert list(violations(path)) == []


def test_every_module_and_folder_has_its_place_in_the_order():
    assert {room(path) for path in modules()} - {PACKAGE} == set(LEVEL)


def test_the_noxfile_names_every_backend_variant_and_cell():
    # It cannot import the package, which is not installed where nox is.
    tree = ast.parse((REPOSITORY / "noxfile.py").read_text(encoding="utf-8"))
    values = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert ast.literal_eval(values["BACKENDS"]) == OURS
    assert ast.literal_eval(values["VARIANTS"]) == VARIANTS
    assert ast.literal_eval(values["CELLS"]) == tuple(CELLS)
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sessions >= set(OURS)


def test_the_top_level_fits_on_a_page():
    assert len(LEVEL) <= 14


@pytest.mark.parametrize("path", modules(), ids=name)
def test_the_core_imports_no_framework_and_no_backend(path):
    roots = {imported.split(".")[0] for imported in imports(path)}
    assert not roots & (FRAMEWORKS | {"backends"})
    assert not any(imported.startswith("rnn_scratch.backends") for imported in imports(path))


@pytest.mark.parametrize("path", sources(), ids=name)
def test_nothing_that_is_installed_imports_what_builds_the_pages(path):
    if "notebooks" not in path.relative_to(REPOSITORY).parts:
        assert "make" not in {imported.split(".")[0] for imported in imports(path)}


def test_no_two_modules_share_a_name():
    names = Counter(path.stem for path in modules())
    # Python runs a folder as a program by the module with this name.
    assert {stem for stem, count in names.items() if count > 1} <= {"__init__", "__main__"}


@pytest.mark.parametrize("path", sources(), ids=name)
def test_a_module_is_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= MOST_LINES
