"""Rules of the code base: layers and imports, size limits, docstrings."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("auditor", "reports", "attacks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]

# Every module belongs to the layer with the longest matching prefix. A module may import modules of
# its own layer and of layers further down.
LAYERS = (
    "auditor/__main__",
    "auditor/cli/",
    "auditor/__init__",
    "auditor/scheduling/",
    "auditor/gates/",
    "auditor/testbed/",
    "auditor/comparison/",
    "auditor/references/",
    "auditor/finetuning/",
    "auditor/membership/",
    "auditor/extraction/",
    "auditor/audit/",
    "auditor/scoring/",
    "auditor/canaries/",
    "auditor/runs/",
    "auditor/sampling/",
    "auditor/matching/",
    "auditor/models/",
    "auditor/corpus/",
    "auditor/config/",
    "auditor/system/",
    "auditor/errors",
    "auditor/version",
    "reports/pages/",
    "reports/figures/",
    "reports/analysis/",
    "reports/privacy/",
    "reports/",
    "attacks/scores/",
    "attacks/statistics/",
    "attacks/",
)
# Third-party package -> the only modules that may import it.
ONLY_IN = {
    "torch": ("auditor/",),
    "transformers": ("auditor/models/", "auditor/finetuning/"),
    "tokenizers": ("auditor/models/",),
    "huggingface_hub": ("auditor/models/",),
    "safetensors": ("auditor/",),
    "click": ("auditor/cli/",),
    "rich": ("auditor/cli/", "auditor/system/progress.py"),
    "pydantic": ("auditor/",),
    "pydantic_core": ("auditor/config/",),
    "cronsim": ("auditor/scheduling/cron.py",),
    "httpx": ("auditor/models/served/",),
    "tenacity": ("auditor/gates/notify.py", "auditor/models/served/"),
    "requests": ("auditor/gates/notify.py",),
    "presidio_analyzer": ("reports/privacy/names.py",),
    "spacy": ("reports/privacy/names.py",),
    "jinja2": ("reports/", "auditor/scheduling/unit_files.py"),
    "markupsafe": ("reports/",),
    "matplotlib": ("reports/",),
    "pandas": ("auditor/", "reports/"),
    "pyarrow": ("auditor/",),
    "scipy": ("attacks/",),
    "sklearn": ("attacks/",),
}
# All third-party packages that `attacks` may import.
ARRAYS = {"numpy", "scipy", "sklearn"}


def imports(path):
    """Every module that a file imports, also inside functions, as (line, dotted name)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).with_suffix("").parts
            base = ".".join(here[: -node.level]) + "." if node.level else ""
            yield node.lineno, base + (node.module or "")


def foreign(path):
    """Third-party packages that a file imports."""
    ours = {*PACKAGES, *sys.stdlib_module_names}
    return {name.partition(".")[0] for _, name in imports(path)} - ours


def edges():
    """Every import within the project as (importer, line, imported), with paths of files."""
    homes = {}
    for name in NAMES:
        homes[name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")] = name
    for name in NAMES:
        for line, module in imported_names(ROOT / name):
            while module not in homes and "." in module:
                module = module.rpartition(".")[0]
            if module in homes and homes[module] != name:
                yield name, line, homes[module]


def imported_names(path):
    """Every imported name of a file as (line, dotted name), including `from x import name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def layer(name):
    fitting = [prefix for prefix in LAYERS if name.startswith(prefix)]
    return LAYERS.index(max(fitting, key=len))


def test_no_import_runs_upwards():
    up = [f"{a}:{line} imports {b}" for a, line, b in edges() if layer(a) > layer(b)]
    assert up == []


def test_no_import_runs_in_a_circle():
    below = {name: set() for name in NAMES}
    for importer, _, imported in edges():
        below[importer].add(imported)
    assert circle(below) is None


def circle(below):
    """The modules on some cycle of a graph, or None."""
    done = set()

    def visit(name, path):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        done.add(name)
        found = (visit(other, [*path, name]) for other in sorted(below[name]))
        return next((one for one in found if one), None)

    return next((one for name in below if (one := visit(name, []))), None)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_the_root_of_auditor_holds_four_modules():
    loose = {path.name for path in (ROOT / "auditor").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "version.py"}


def test_imports_are_absolute():
    relative = [
        f"{name}:{node.lineno}"
        for name in NAMES
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("name", NAMES)
def test_third_party_imports_are_where_they_are_allowed(name):
    wrong = {
        package
        for package in foreign(ROOT / name)
        if package in ONLY_IN and not name.startswith(ONLY_IN[package])
    }
    assert wrong == set()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("attacks/")])
def test_attacks_know_arrays_alone(name):
    assert foreign(ROOT / name) <= ARRAYS


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("attacks/", "reports/"))])
def test_lower_packages_do_not_import_dynamically(name):
    # The parser would not see `import_module("auditor.x")`.
    used = {module for _, module in imports(ROOT / name)}
    assert not used & {"importlib", "importlib.util", "importlib.machinery"}


def test_all_imported_packages_are_declared_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [package for name in extras if name != "dev" for package in extras[name]]
    wanted = [*project["dependencies"], *optional]
    asked = {normal(re.match(r"[\w.-]+", line).group()) for line in wanted}
    homes = packages_distributions()
    used = {package for path in FILES for package in foreign(path)}
    unasked = {p for p in used if not {normal(home) for home in homes.get(p, [p])} & asked}
    assert unasked == set()


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_at_most_600_lines(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 600


def body_lines(function):
    """Lines of a function without its docstring."""
    first = function.body[0]
    is_documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    skipped = first.end_lineno - first.lineno + 1 if is_documented else 0
    return function.end_lineno - function.lineno + 1 - skipped


@pytest.mark.parametrize("name", NAMES)
def test_a_function_has_at_most_80_lines(name):
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    assert {f.name: body_lines(f) for f in functions if body_lines(f) > 80} == {}


@pytest.mark.parametrize("name", NAMES)
def test_no_todo_is_left(name):
    tokens = tokenize.generate_tokens(io.StringIO((ROOT / name).read_text("utf-8")).readline)
    comments = [t.string for t in tokens if t.type in (tokenize.COMMENT, tokenize.STRING)]
    assert [c for c in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", c)] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_assert_checks_user_input(name):
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_module_has_a_docstring(name):
    assert ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name):
    body = ast.parse((ROOT / name).read_text(encoding="utf-8")).body
    named = (node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    public = (node for node in named if not node.name.startswith("_"))
    assert [node.name for node in public if not ast.get_docstring(node)] == []
