"""The layout of the package: imports go one way, names are unique, and modules stay small."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import rnn_scratch
from rnn_scratch.contract import CELLS, VARIANTS
from rnn_scratch.registry import OURS

CORE = Path(rnn_scratch.__file__).parent
REPOSITORY = CORE.parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "mxnet", "jax", "flax"}

# Each module or folder at the top level may import from those before it, and from its own folder.
ORDER = (
    ("errors",),
    ("randomness",),
    ("system",),
    ("contract",),
    ("exact",),
    ("settings",),
    ("parameters",),
    ("registry",),
    ("text",),
    ("runs",),
    ("workers",),
    ("check",),
    ("api",),
    ("compare",),
    ("show", "play"),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
MOST_NAMES = 17  # at the top level: they fit on a page
MOST_LINES = 320  # that are not blank
CONTRACT = 360  # whose functions are documentation only


def name(path):
    """The name of a module, or of the folder whose ``__init__`` it is."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


# Modules by name, without the package itself, which offers the functions of `api` when they are
# first used, and without the program that starts `cli`.
MODULES = {name(path): path for path in CORE.rglob("*.py") if path.parent != CORE / "backends"}
del MODULES[CORE.name], MODULES[f"{CORE.name}.__main__"]


def sources():
    """All Python files that are part of the project, but not its tests."""
    folders = (REPOSITORY / "backends", REPOSITORY / "notebooks" / "make")
    return [*MODULES.values(), *(path for folder in folders for path in folder.rglob("*.py"))]


def imports(path):
    """The absolute names of what a module imports, wherever in the module."""
    package = list(path.relative_to(REPOSITORY).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # a module of a folder, or a name in a module
                whole = f"{prefix}.{alias.name}"
                yield whole if whole in MODULES else prefix


def room(module):
    """What has a place in the order: a module, or else its folder at the top level."""
    _, top, *_ = module.split(".")
    within = module.partition(".")[2]
    return within if within in LEVEL else top


def test_imports_go_one_way():
    for module, path in MODULES.items():
        own = room(module)
        for imported in set(imports(path)) & set(MODULES):
            other = room(imported)
            assert other == own or LEVEL[other] < LEVEL[own], f"{module} imports {imported}"


def test_no_circle_among_modules():
    graph = {module: set(imports(path)) & set(MODULES) for module, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # an error has the circle


def test_the_top_level_fits_on_a_page():
    assert {room(module) for module in MODULES} == set(LEVEL)
    assert len({module.split(".")[1] for module in MODULES}) <= MOST_NAMES


def test_the_core_imports_no_framework_and_nothing_what_builds_the_pages():
    for path in sources():
        roots = {imported.split(".")[0] for imported in imports(path)}
        assert "make" not in roots or "make" in path.parts, path
        if path.is_relative_to(CORE):
            assert not roots & {*FRAMEWORKS, "backends"}, path
            backends = f"{CORE.name}.backends"
            assert not any(imported.startswith(backends) for imported in imports(path)), path


def test_a_backend_imports_only_what_the_core_offers_to_backends():
    # And from NumPy's, whose engine for several workers is MXNet's too.
    names = ("contract", "parameters", "system", "workers", "backends")
    offered = {f"{CORE.name}.{name}" for name in names}
    for path in (REPOSITORY / "backends").rglob("*.py"):
        core = {name for name in imports(path) if name.startswith(f"{CORE.name}.")}
        assert {".".join(name.split(".")[:2]) for name in core} <= offered, path


def test_no_two_modules_share_a_name():
    # Python runs a folder as a program by the module `__main__`.
    stems = Counter(path.stem for path in MODULES.values() if not path.stem.startswith("__"))
    assert [stem for stem, count in stems.items() if count > 1] == []


def test_modules_are_short():
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        most = CONTRACT if path.stem == "contract" else MOST_LINES
        assert sum(bool(line.strip()) for line in lines) <= most, path


def test_the_noxfile_names_every_backend_variant_and_gated_cell():
    # It cannot import the package, which is not installed where nox is.
    tree = ast.parse((REPOSITORY / "noxfile.py").read_text(encoding="utf-8"))
    values = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert ast.literal_eval(values["BACKENDS"]) == OURS
    assert ast.literal_eval(values["VARIANTS"]) == VARIANTS
    assert {*ast.literal_eval(values["GATED"])} == {*CELLS} - {"rnn", "rnn-relu"}
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sessions >= set(OURS)
