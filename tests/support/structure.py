"""The imports between packages, and their picture: ``python -m tests.support.structure | dot -Tsvg``."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path for package in ("pipeline", "assets") for path in (ROOT / package).rglob("*.py")
)

# From the bottom up: a package imports from those below it, and from no other.
LEVELS = [
    {
        "environment",
        "errors",
        "extras",
        "interruption",
        "oserrors",
        "process",
        "terminal",
        "version",
    },
    {"model"},
    {"settings"},
    {"lake", "twilio", "emulator"},
    {"accounts", "extract", "marts", "settings_shown"},
    {"outputs", "merge_runner", "observer", "side_by_side", "sync_report"},
    {"access", "extraction", "sync_group"},
    {"report", "sync", "rebuild"},
    {"quality", "sync_accounts", "sync_partition"},
    {"cli", "assets"},
]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file it does."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str | None:
    """The package of ours that a module is in; None for others, and for `pipeline` itself."""
    first, _, rest = module.partition(".")
    if first == "assets":
        return first
    return rest.partition(".")[0] or None if first == "pipeline" else None


def drawn() -> set[tuple[str, str]]:
    """The imports to draw, as pairs of packages: without those of the lowest level, which any may import,
    and without those that a longer way of arrows implies.
    """
    found: dict[str, set[str]] = {}
    for path in MODULES:
        here = package_of(name_of(path))
        there = {package_of(one) for one in imports(path)} - {None, here} - LEVELS[0]
        if here and here not in LEVELS[0]:
            found[here] = found.get(here, set()) | there

    def below(package: str) -> set[str]:
        return found[package].union(*map(below, found[package]))

    return {
        (here, there)
        for here, others in found.items()
        for there in others
        if not any(there in below(other) for other in others)
    }


def dot() -> str:
    """The picture, for Graphviz: each level is a row."""
    names = {name for pair in drawn() for name in pair}
    rows = [f"{{rank=same; {'; '.join(sorted(level & names))}}}" for level in LEVELS[1:]]
    arrows = [f"{here} -> {there}" for here, there in sorted(drawn())]
    style = """
    graph [fontname="Helvetica,Arial,sans-serif" bgcolor="#fbfcfd" pad=0.3 nodesep=0.35 ranksep=0.45]
    node [fontname="Helvetica,Arial,sans-serif" fontsize=14 shape=box style="rounded,filled"
          color="#3b6ea5" fillcolor="#eaf1f8" fontcolor="#1f2933" height=0.42]
    edge [color="#66727f" arrowsize=0.7]"""
    return f"digraph packages {{{style}\n    " + "\n    ".join([*rows, *arrows]) + "\n}"


if __name__ == "__main__":
    print(dot())  # noqa: T201 - for Graphviz
