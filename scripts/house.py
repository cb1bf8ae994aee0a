"""How the house stands, in numbers: circles, directions, sizes, helpers, names that nothing uses.

    python scripts/house.py [--against REV] [--list]    the working tree; beside it a revision of git; what was counted

What is counted, in the Python files of the package: **circles** are sets of modules that import each other, by imports
that run when a module is loaded, by those in functions too, and by those for types alone too; an import is **upward**
where the first contract of import-linter in ``pyproject.toml`` puts what is imported above, or beside; the lines of a
**function** are those below its docstring; a **helper** is a function or method whose name begins with ``_``, and who
calls it is a function (or the body of a module or class) that names it, in its module or in one that does not define
the name too. A public class, function or method is **unused** where no file names it but to define it, to list it in
``__all__`` or to import it. Words are compared, not objects: of two methods of one name both are used where either is,
and one that Python or torch calls by its name seems unused.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tempfile
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

LONG_FILE = 400  # lines
TESTS = ("tests/**/*",)
USERS = (*(f"{folder}/**/*" for folder in ("src", "docs", "benchmarks", "examples", "recipes", "scripts")), "README.md")
TEXTS = {".py", ".md", ".toml", ".ipynb", ".html", ".j2", ".js"}
# Whatever else decorates a function may call it without naming it: a validator, a verb of the command line.
NAMED_TO_BE_USED = re.compile(r"(\w+\.)*(property|cached_property|classmethod|staticmethod|abstractmethod|cache)$")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def placed(node: ast.AST, place: str, inside: bool = False) -> Iterator[tuple[str, bool, ast.AST]]:
    """Yield every node below one, with the dotted name of what it stands in, and whether that is within a function."""
    for child in ast.iter_child_nodes(node):
        yield place, inside, child
        opens = isinstance(child, Function | ast.ClassDef)
        yield from placed(child, f"{place}.{child.name}" if opens else place, inside or isinstance(child, Function))


def statements(body: Iterable[ast.AST], when: str) -> Iterator[ast.AST]:
    """Yield statements and all in them that count: on ``loading`` of a module, on ``running``, or for ``types`` too."""
    for node in body:
        skipped = when == "loading" and isinstance(node, Function)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not skipped and (when == "types" or not for_types):
            yield node
            yield from statements((n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr)), when)


def room(module: str) -> str:
    """Return the name below the package, such as ``fields``; of the front door the name of the package."""
    return ".".join(module.split(".")[1:2]) or module


class House:
    """The package of a checkout, parsed once."""

    def __init__(self, root: Path) -> None:
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
        self.root, self.package, layers = root, settings["root_package"], settings["contracts"][0]["layers"]
        self.floors = {name.strip(" ()"): floor for floor, line in enumerate(layers) for name in line.split("|")}
        self.lines: dict[str, int] = {}
        self.trees: dict[str, ast.Module] = {}
        for file in sorted((root / "src" / self.package).rglob("*.py")):
            parts = file.relative_to(root / "src").with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = file.read_text(encoding="utf-8")
            self.lines[name], self.trees[name] = len(text.splitlines()), ast.parse(text)

    def imports(self, module: str, when: str) -> set[str]:
        """Return the modules of the package that one imports, see `statements`."""
        found: set[str] = set()
        for node in statements(self.trees[module].body, when):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(self.trees)
                found |= inner or {node.module}
        return found & set(self.trees) - {module}

    def circles(self, when: str) -> list[str]:
        """Return the sets of modules that reach each other by imports, the front door left out."""
        arrows = {m: self.imports(m, when) - {self.package} for m in self.trees if m != self.package}
        reached = {module: set(there) for module, there in arrows.items()}
        for between in arrows:
            for ahead in reached.values():
                ahead |= reached[between] if between in ahead else set()
        together = {frozenset(m for m in reached[one] if one in reached[m]) for one in arrows if one in reached[one]}
        return sorted(" ".join(sorted(circle)) for circle in together)

    def upward(self) -> list[str]:
        """Return the imports between rooms that do not go down."""
        known = [module for module in self.trees if room(module) in self.floors]
        pairs = [(a, b) for a in known for b in self.imports(a, "types") & set(known) if room(a) != room(b)]
        return sorted(f"{a} -> {b}" for a, b in pairs if self.floors[room(b)] <= self.floors[room(a)])

    def sizes(self) -> list[int]:
        """Return the lines of every function below its docstring."""
        functions = [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, Function)]
        told = [ast.get_docstring(node) is not None and node.body[0].end_lineno + 1 for node in functions]
        return [node.end_lineno - (first or node.lineno) + 1 for node, first in zip(functions, told, strict=True)]

    @cached_property
    def helpers(self) -> dict[str, set[str]]:
        """Return of every helper who calls it."""
        homes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # name, module, helpers
        named: dict[str, set[tuple[str, str]]] = defaultdict(set)  # name, (module, who names it)
        for module, tree in self.trees.items():
            for place, _, node in placed(tree, module):
                if isinstance(node, Function) and node.name.startswith("_") and not node.name.endswith("__"):
                    homes[node.name][module].add(f"{place}.{node.name}")
                elif isinstance(node, ast.Name | ast.Attribute):
                    named[node.id if isinstance(node, ast.Name) else node.attr].add((module, place))
        return {
            one: {who for where, who in named[name] if who != one and (where == home or where not in modules)}
            for name, modules in homes.items()
            for home, there in modules.items()
            for one in there
        }

    def unused(self, places: Sequence[str]) -> list[str]:
        """Return the public names that no file of these places uses."""
        words: Counter[str] = Counter()
        own: Counter[str] = Counter()
        for file in [file for place in places for file in self.root.glob(place) if file.suffix in TEXTS]:
            words.update(re.findall(r"\w+", file.read_text(encoding="utf-8")))
        public: dict[str, str] = {}
        for module, tree in self.trees.items():
            for place, inside, node in placed(tree, module):
                if isinstance(node, Function | ast.ClassDef):
                    own[node.name] += 1
                    plain = all(NAMED_TO_BE_USED.match(ast.unparse(x)) for x in node.decorator_list)
                    hidden = inside or node.name.startswith(("_", "test_"))
                    if not hidden and (plain or isinstance(node, ast.ClassDef)):
                        public[f"{place}.{node.name}"] = node.name
                elif isinstance(node, ast.ImportFrom):
                    own.update(alias.name for alias in node.names)
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    own.update(str(x.value) for x in ast.walk(node.value) if isinstance(x, ast.Constant))
        return sorted(place for place, name in public.items() if words[name] <= own[name])

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """Return what is counted, by the words of its row."""
        nowhere, without_tests = self.unused(USERS + TESTS), self.unused(USERS)
        return {
            "circles among modules, by imports on loading": self.circles("loading"),
            "circles, by imports in functions too": self.circles("running"),
            "circles, by imports for types too": self.circles("types"),
            "imports upward": self.upward(),
            f"files over {LONG_FILE} lines": sorted(name for name, lines in self.lines.items() if lines > LONG_FILE),
            "helpers with one caller": sorted(name for name, callers in self.helpers.items() if len(callers) == 1),
            "public names that nothing uses": nowhere,
            "public names that only tests use": sorted(set(without_tests) - set(nowhere)),
        }

    def table(self) -> dict[str, int]:
        """Return the numbers, row by row."""
        rows = {words: len(there) for words, there in self.lists.items()}
        sizes, total = self.sizes(), sum(self.lines.values())
        rows |= {"helpers": len(self.helpers), "functions": len(sizes), "modules": len(self.lines), "lines": total}
        rows["lines of the longest function"] = max(sizes, default=0)
        rooms: Counter[str] = Counter()
        for module, lines in self.lines.items():
            rooms[f"  {room(module)}"] += lines
        return rows | dict(sorted(rooms.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout")
    parser.add_argument("--against", metavar="REV", help="a revision of git to set beside it")
    parser.add_argument("--list", action="store_true", help="print the places behind the counts as well")
    options = parser.parse_args(arguments)
    house = House(options.root)
    tables = {"now": house.table()}
    if options.against:
        packed = subprocess.run(["git", "archive", options.against], cwd=options.root, check=True, capture_output=True)
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(scratch, filter="data")
            tables = {options.against: House(Path(scratch)).table()} | tables
    print(" " * 52 + "".join(f"{name:>14}" for name in tables))
    for row in dict.fromkeys(row for table in tables.values() for row in table):
        print(f"{row:52}" + "".join(f"{table.get(row, 0):>14}" for table in tables.values()))
    for words, there in house.lists.items() if options.list else ():
        print(f"\n{words}", *there, sep="\n  ")


if __name__ == "__main__":
    main()
