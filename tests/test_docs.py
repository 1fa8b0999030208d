"""The documentation is correct: tree, commands, settings, links, reference."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import auditor
from auditor.cli.command import VERBS, cli
from auditor.cli.reference import reference
from auditor.config.audit import make_config
from auditor.runs.run import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SKIPPED = {"runs", "demo", "testbeds", "fuzz-faults", "build", "dist", "shared"}
MAKE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(page, language):
    """Fenced code blocks of a page in a language ("" for none)."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


# ------------------------------------------------------------------------------- the tree
def tree():
    """Paths in the tree of CONTRIBUTING.md; folders end in a slash."""
    (block,) = (b for b in blocks(CONTRIBUTING, "") if "auditor/" in b)
    paths, parents = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, meaning = line.strip().partition(" ")
        assert meaning.strip(), f"{name} stands in the tree without a word about it"
        paths.append("".join([*parents[:depth], name]))
        parents[depth:] = [name]
    return paths


def test_everything_in_the_tree_is_there():
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert missing == []
    assert [p for p in tree() if p.endswith("/") != (ROOT / p).is_dir()] == []


@pytest.mark.parametrize("parent", ["", "auditor/"])
def test_every_folder_is_in_the_tree(parent):
    folders = {
        f"{parent}{path.name}/"
        for path in (ROOT / parent).iterdir()
        if path.is_dir() and not path.name.startswith((".", "__")) and path.name not in SKIPPED
    }
    assert folders - {"auditor/data/"} <= set(tree())


# ------------------------------------------------------------------------------- commands
def commands():
    """Every command line in the pages: in sh blocks, and as inline code."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield page.name, line
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(r"`((?:auditor|make) [^`]*)`", prose):
            yield page.name, line


def placeholder(word):
    """Whether a word is a placeholder, such as RUN, DIR or SPEC."""
    return re.fullmatch(r"[A-Z]+", word) is not None


def check_auditor(words):
    """Parse a command line without running it."""
    command, context = cli, click.Context(cli, info_name="auditor", **cli.context_settings)
    while isinstance(command, click.Group) and words:
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"no verb {name!r}"
        if not isinstance(found, click.Group):
            found.make_context(name, list(words), parent=context)
            return
        command, context = found, click.Context(found, info_name=name, parent=context)


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_in_the_pages_can_be_given(page, line):
    words = shlex.split(line, comments=True)
    if "_AUDITOR_COMPLETE=" in line:
        assert re.search(r"_AUDITOR_COMPLETE=(bash|zsh|fish)_source auditor\b", line)
        return
    assert words[0] in ("make", "auditor", "pip", "python")
    if words[0] == "auditor" and not any(map(placeholder, words)):
        check_auditor(words[1:])
    elif words[0] == "auditor":
        assert words[1] in VERBS
    elif words[0] == "make":
        targets = [w for w in words[1:] if "=" not in w]
        assert [t for t in targets if not re.search(rf"^{t}:", MAKE, re.MULTILINE)] == []
    elif words[:2] == ["python", "-m"]:
        path = ROOT / words[2].replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_commands_are_found_at_all():
    lines = [line for _, line in commands()]
    assert "make demo" in lines
    assert "make test" in lines
    assert any(line.startswith("auditor audit --model") for line in lines)


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(click.NoSuchOption):
        check_auditor(["audit", "--sampels", "3"])
    with pytest.raises(AssertionError, match="no verb 'adit'"):
        check_auditor(["adit"])


def test_nothing_is_installed_by_a_name_that_is_not_published():
    kinds = ("*.py", "*.md", "*.j2", "*.ipynb")
    folders = ("auditor", "reports", "attacks", "docs", "notebooks")
    files = [p for folder in folders for kind in kinds for p in (ROOT / folder).rglob(kind)]
    lines = [
        line
        for path in [*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install\b.*memorization-auditor", line)
    ]
    assert [line for line in lines if " @ {{" not in line] == []  # from the URL of a repository
    assert len(lines) == 1


def test_every_verb_that_a_message_names_exists():
    named = set()
    for path in (ROOT / "auditor").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= {
            (path.name, v)
            for v in re.findall(r"(?:`|with: |--resume |^    )auditor ([a-z]+)", text)
        }
    assert {verb for _, verb in named} <= set(VERBS)
    assert {"audit", "models", "testbed"} <= {verb for _, verb in named}


def test_make_says_what_its_targets_do_and_has_those_that_matter():
    for target in ("demo", "test", "docs"):
        assert re.search(rf"^{target}:.*## \w", MAKE, re.MULTILINE)


# ----------------------------------------------------------------------- settings and names
@pytest.mark.parametrize("text", [b for p in PAGES for b in blocks(p.read_text("utf-8"), "toml")])
def test_every_audit_file_in_the_pages_is_one(text):
    given = tomllib.loads(text)
    assert [s.name for s in make_config(given).strategies] == given["strategies"]


@pytest.mark.parametrize("text", [b for p in PAGES for b in blocks(p.read_text("utf-8"), "python")])
def test_every_name_that_python_examples_use_exists(text):
    homes = {"auditor": auditor.__all__, "run": dir(Run)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr in homes.get(node.value.id, [node.attr])


OURS = {"auditor", "attacks", "reports"}


def python_sources():
    """Python code of the pages' examples and of each notebook, with the file's name."""
    for page in PAGES:
        yield from ((page.name, text) for text in blocks(page.read_text("utf-8"), "python"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        yield path.name, re.sub(r"(?m)^%.*$", "", "\n".join(code))


@pytest.mark.parametrize(("where", "text"), list(python_sources()))
def test_examples_and_notebooks_import_public_names_from_auditor_alone(where, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            ours = [a.name for a in node.names if a.name.split(".")[0] in OURS]
            assert set(ours) <= {"auditor"}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            assert node.module == "auditor"
            assert {alias.name for alias in node.names} <= set(auditor.__all__)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "auditor" or node.attr in auditor.__all__


# ------------------------------------------------------------------------------- links etc.
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_is_valid(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_changelog_knows_this_version():
    assert f"## {auditor.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_command_reference_is_up_to_date():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "run: make docs"


def test_the_command_reference_can_be_made_from_a_shell():
    command = [sys.executable, "-m", "auditor.cli.reference"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == reference()


def test_the_command_reference_leaves_nothing_out(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # independent of the terminal
    page = reference()
    assert [verb for verb in VERBS if f"\n### auditor {verb}\n" not in page] == []
    assert "\n#### auditor models add\n" in page
    assert page == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_python_reference_names_all_that_is_public():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: auditor\.(\w+)$", page, re.MULTILINE)
    assert sorted([*named, "__version__"]) == sorted(auditor.__all__)
