"""The laws of the house that can be executed: directions, silence at import, size, names, documentation."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "scifm"
FILES = sorted(SOURCE.rglob("*.py"))

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
# Functions allowed to be longer, as "room/file.py:function": why.
LONG_FUNCTIONS: dict[str, str] = {}
FORBIDDEN_ROOMS = {"utils", "util", "core", "common", "helpers", "helper", "lib", "misc"}
# Constructors of layers, which torch gives no generator: `DrawingFrom` does, in whatever builds an operator.
DRAWS_FIRST_WEIGHTS = {"models/parts/centered_spectral.py"}
SAYS_IT_ALL = {"to_dict", "from_dict"}
LOADED_ON_USE = {"matplotlib", "pyarrow", "typer", "jinja2", "huggingface_hub", "rich", "pandas"}


def name_of(file: Path) -> str:
    """Return the dotted module name of a source file."""
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions_of(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out: explaining is free."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        text = function.body[0]
        lines -= (text.end_lineno or text.lineno) - text.lineno + 1
    return lines


def every_file(law: Callable[[Path], None]) -> Callable[[], None]:
    """Return one test of all files, which names those that break a law: a test for each would take half a minute."""

    def test() -> None:
        broken = {}
        for file in FILES:
            try:
                law(file)
            except AssertionError as error:
                broken[place_of(file)] = str(error)
        assert not broken, "\n".join(f"{place}: {why}" for place, why in broken.items())

    test.__doc__ = law.__doc__
    return test


def run_python(code: str) -> dict:
    """Run `code` in a fresh interpreter away from the project; it prints one JSON object and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", f"something was printed: {done.stderr}"
    lines = done.stdout.splitlines()
    assert len(lines) == 1, f"something was printed: {lines[:-1]}"
    return json.loads(lines[0])


# --- directions -------------------------------------------------------------------------------------------------------


def lint_imports(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as run; run()"]
    return subprocess.run(
        [*command, "--no-cache", "--no-logo", "--config", str(config)],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
    )  # fmt: skip


def test_imports_run_strictly_downward():
    done = lint_imports(ROOT / "pyproject.toml", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_wrong_import_would_be_found(tmp_path):
    """The contracts themselves: a copy of the house with one door too many must fail, and say where."""
    layers = {"errors": "", "models": "from scifm.systems import poisson", "systems": "", "systems/poisson": ""}
    for place, text in layers.items():
        file = (
            tmp_path / "scifm" / (place + ".py" if place in {"errors", "systems/poisson"} else place + "/__init__.py")
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "scifm" / "__init__.py").write_text("")
    settings = (ROOT / "pyproject.toml").read_text().partition("[[tool.importlinter.contracts]]")
    first_contract = settings[2].partition("[[tool.importlinter.contracts]]")[0]
    config = tmp_path / "pyproject.toml"
    config.write_text('[tool.importlinter]\nroot_package = "scifm"\n[[tool.importlinter.contracts]]' + first_contract)
    done = lint_imports(config, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"scifm\.models is not allowed to import\s+scifm\.systems", done.stdout), done.stdout


def test_the_table_of_rooms_is_that_of_the_contracts():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = [re.findall(r"\w+", line) for line in settings["contracts"][0]["layers"]]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("```\n")[2].partition("```")[0].splitlines()
    rooms = [re.findall(r"\w+", re.split(r"(?<=\w) {3,}(?=[^ |])", line)[0]) for line in table]
    assert rooms == [names for names in contract if names != ["__main__"]]


@every_file
def test_inside_the_package_imports_come_from_files(file):
    """`from scifm.fields.grid import Grid`, never from a package's face; only registries (capitals) live in faces."""
    packages = {name_of(f) for f in FILES if f.name == "__init__.py"}
    modules = {name_of(f) for f in FILES}
    if file == SOURCE / "__init__.py":
        packages -= {"scifm"}
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and node.module in packages:
            through = [a.name for a in node.names if f"{node.module}.{a.name}" not in modules and not a.name.isupper()]
            assert not through or through == ["__version__"], f"line {node.lineno}: {through} from {node.module}"


def test_training_waits_for_nothing_that_draws():
    """A process that trains, and each worker of a study, loads records of the report room and none of what draws."""
    drawing = ("matplotlib", "jinja2", "PIL")
    code = f"import json, sys, scifm.training.pretrain; print(json.dumps([m for m in {drawing!r} if m in sys.modules]))"
    assert run_python(code) == []


def test_report_loads_without_torch():
    """The rooms of the report are imported past the front door, which may load torch."""
    modules = [name_of(f) for f in FILES if name_of(f).startswith("scifm.report")]
    if not modules:
        pytest.skip("there is no report room yet")
    code = f"""
import importlib, json, sys, types
house = types.ModuleType("scifm")
house.__path__ = [{str(SOURCE)!r}]
sys.modules["scifm"] = house
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps(sorted(m for m in sys.modules if m.split(".")[0] == "torch")))
"""
    assert run_python(code) == []


# --- import is silent -------------------------------------------------------------------------------------------------

IMPORT_PROBE = """
import json, logging, signal, sys, warnings
import numpy, torch
connections = []
sys.addaudithook(lambda event, args: connections.append(event) if event.startswith("socket.connect") else None)
def settings():
    return {
        "threads": torch.get_num_threads(), "interop": torch.get_num_interop_threads(),
        "dtype": str(torch.get_default_dtype()), "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "grad": torch.is_grad_enabled(),
        "seed": torch.initial_seed(), "numpy_errors": numpy.geterr(),
        "handlers": [str(h) for h in logging.getLogger().handlers], "level": logging.getLogger().level,
        "filters": len(warnings.filters), "interrupt": str(signal.getsignal(signal.SIGINT)),
        "excepthook": str(sys.excepthook), "argv": sys.argv,
    }
before = settings()
loaded = set(sys.modules)
import scifm
print(json.dumps({"before": before, "after": settings(), "connections": connections,
                  "loaded": sorted({m.split(".")[0] for m in set(sys.modules) - loaded})}))
"""


@pytest.fixture(scope="module")
def import_effects() -> dict:
    return run_python(IMPORT_PROBE)


def test_import_changes_no_global_setting(import_effects):
    assert import_effects["after"] == import_effects["before"]


def test_import_opens_no_connection(import_effects):
    assert import_effects["connections"] == []


def test_import_leaves_heavy_packages_for_when_they_are_used(import_effects):
    assert not LOADED_ON_USE & set(import_effects["loaded"])


# --- every file -------------------------------------------------------------------------------------------------------


@every_file
def test_module_has_a_docstring_and_says_what_is_public(file):
    tree = tree_of(file)
    assert ast.get_docstring(tree), "a module begins by saying what it is"
    if file.name == "__main__.py":
        return
    exported = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    assert exported, "__all__ is missing"


@every_file
def test_what_is_exported_exists(file):
    if file.name == "__main__.py":
        return
    module = importlib.import_module(name_of(file))
    for name in module.__all__:
        assert hasattr(module, name), f"__all__ promises {name}"


@every_file
def test_what_is_public_is_documented(file):
    """Classes and functions by ruff; methods here: an override may inherit its text, some names say it all."""
    if file.name in {"__main__.py", "__init__.py"}:
        return
    module = importlib.import_module(name_of(file))
    undocumented = []
    for cls in (getattr(module, name) for name in module.__all__):
        if isinstance(cls, type) and cls.__module__ == module.__name__:
            own = [
                n for n, x in vars(cls).items() if callable(x) or isinstance(x, property | classmethod | staticmethod)
            ]
            public = [n for n in own if not n.startswith(("_", "num_")) and n not in SAYS_IT_ALL]
            undocumented += [f"{cls.__name__}.{n}" for n in public if not inspect.getdoc(getattr(cls, n))]
    assert undocumented == []


@every_file
def test_file_is_short_enough_to_be_read(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@every_file
def test_functions_are_short(file):
    long = {
        f"{place_of(file)}:{function.name}": body_lines(function)
        for function in functions_of(file)
        if body_lines(function) > MAX_FUNCTION_LINES
    }
    assert set(long) <= set(LONG_FUNCTIONS), f"over {MAX_FUNCTION_LINES} lines: {long}"


def test_every_allowed_long_function_still_is_long():
    long = {f"{place_of(f)}:{x.name}" for f in FILES for x in functions_of(f) if body_lines(x) > MAX_FUNCTION_LINES}
    assert set(LONG_FUNCTIONS) <= long


@every_file
def test_no_error_is_swallowed(file):
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        assert node.type is not None, f"line {node.lineno}: a bare except"
        broad = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
        goes_on = not any(isinstance(n, ast.Raise) for n in ast.walk(node))
        assert not (broad and goes_on), f"line {node.lineno}: catches everything and goes on"


@every_file
def test_numbers_are_not_made_up_and_strangers_are_not_unpickled(file):
    """No nan_to_num, no nansum; torch.load only with weights_only=True; no pickle, no eval."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"nan_to_num", "nan_to_num_", "nansum", "nanmean"}, f"line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {getattr(node, "module", None), *(a.name for a in node.names)}
            assert not names & {"pickle", "cloudpickle", "dill"}, f"line {node.lineno}: pickle"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec"}, f"line {node.lineno}: {called}"
            if called == "torch.load":
                safe = [ast.unparse(k.value) for k in node.keywords if k.arg == "weights_only"]
                assert safe == ["True"], f"line {node.lineno}: torch.load without weights_only"


@every_file
def test_nobody_touches_torchs_global_generator(file):
    """Threads share it. What draws is given a generator; `fields/seeds.py` alone puts another one in its place."""
    if place_of(file) == "fields/seeds.py":
        return
    for node in ast.walk(tree_of(file)):
        assert not (isinstance(node, ast.Import) and "random" in [a.name for a in node.names]), node.lineno
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        assert name not in {"manual_seed", "seed_all", "seed_everything", "fork_rng", "set_rng_state"}, node.lineno
        draws = called.startswith("torch.") and name.startswith(("rand", "normal", "bernoulli", "multinomial"))
        assert not draws or "generator" in [k.arg for k in node.keywords] or place_of(file) in DRAWS_FIRST_WEIGHTS
        assert not called.startswith(("numpy.random.", "np.random.")) or name == "default_rng", node.lineno


def test_rooms_are_nouns_a_scientist_says():
    for file in FILES:
        names = {part.lstrip("_") for part in file.relative_to(SOURCE).with_suffix("").parts}
        assert not names & FORBIDDEN_ROOMS, place_of(file)


def test_every_room_is_a_package():
    folders = {file.parent for file in FILES}
    assert [place_of(f) for f in folders if not (f / "__init__.py").is_file()] == []


# --- documentation and locks ------------------------------------------------------------------------------------------


def documented_modules() -> list[str]:
    pages = (ROOT / "docs" / "api").glob("*.md")
    return [name for page in pages for name in re.findall(r"^::: (scifm[\w.]*)", page.read_text(), re.MULTILINE)]


def test_every_public_module_is_in_the_documentation():
    private = re.compile(r"\._")
    public = {name_of(f) for f in FILES if f.name != "__init__.py" and not private.search(name_of(f))}
    missing = sorted(public - set(documented_modules()))
    assert not missing, f"add '::: name' to a page of docs/api for {missing}"


def test_the_documentation_names_only_what_exists_and_once():
    documented = documented_modules()
    assert sorted(set(documented)) == sorted(documented)
    assert set(documented) <= {name_of(f) for f in FILES}


def test_every_page_is_reachable():
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in menu] == []


def pins(name: str) -> dict[str, str]:
    return {project: version for project, (version, _) in locked(name).items()}


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each pin."""
    text = (ROOT / name).read_text().replace("\\\n", "")
    lines = [x for x in text.splitlines() if x and not x.startswith("#")]
    loose = [x for x in lines if not re.fullmatch(r"[\w.\-]+==[A-Za-z0-9.!]+( +--hash=sha256:[0-9a-f]{64})+ *", x)]
    assert not loose, f"{name} must hold only name==version and hashes: no host, no path, no local build; got {loose}"
    found = {}
    for pin, *hashes in (line.split() for line in lines):
        project, _, version = pin.partition("==")
        found[re.sub(r"[-_.]+", "-", project).lower()] = version, hashes
    return found


def test_locks_pin_and_agree():
    runtime, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {k: development.get(k) for k in runtime} == runtime


def test_what_is_compiled_is_locked_for_more_than_one_machine_and_only_locked_files_are_installed():
    hashes = {project: found for project, (_, found) in locked("requirements.lock").items()}
    few = {
        project: len(hashes[project]) for project in ("torch", "numpy", "h5py", "scipy") if len(hashes[project]) < 10
    }
    assert not few, "these are built for each system and version of Python, and torch also without CUDA"
    installs = [x for x in (ROOT / "Makefile").read_text().splitlines() if " install " in x and " -r " in x]
    assert len(installs) == 2
    assert all("--require-hashes" in x and "--no-deps" in x for x in installs)


def test_locks_hold_every_declared_dependency():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [text for group in project["project"]["optional-dependencies"].values() for text in group]
    wanted = {
        "requirements.lock": project["project"]["dependencies"] + project["build-system"]["requires"],
        "requirements-dev.lock": project["project"]["dependencies"] + extras,
    }
    for lock, requirements in wanted.items():
        pinned = pins(lock)
        for requirement in map(Requirement, requirements):
            version = pinned.get(re.sub(r"[-_.]+", "-", requirement.name).lower())
            assert version is not None, f"{lock} lacks {requirement.name}"
            assert requirement.specifier.contains(version), f"{lock}: {requirement} is not {version}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "concepts").glob("*.md")), ids=lambda p: p.stem)
def test_python_on_the_concept_pages_runs(page):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile("\n".join(blocks), page.name, "exec"), {"__name__": "documentation"})


# --- the pages say what is true ---------------------------------------------------------------------------------------

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


def commands_of(page: Path) -> list[str]:
    """Return the calls of scifm in fenced blocks, by itself or by a launcher; a backslash joins lines."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    called = (re.match(r"\s*(?:srun .*?|torchrun .*? -m )?(scifm .*)", line) for line in lines)
    return [found[1].strip() for found in called if found]


@pytest.mark.parametrize("page", [p for p in PAGES if p.is_file() and commands_of(p)], ids=lambda p: p.stem)
def test_commands_on_the_pages_exist(page):
    cli = pytest.importorskip("scifm.cli")
    import shlex

    import typer

    verbs = typer.main.get_command(cli.app).commands
    for line in commands_of(page):
        words = shlex.split(line, comments=True)[1:]
        verb = next(word for word in words if not word.startswith("-"))
        assert verb in verbs, line
        options = {option for parameter in verbs[verb].params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert given <= options, f"{line}: {sorted(given - options)} unknown to 'scifm {verb}'"


@pytest.mark.parametrize("page", [p for p in PAGES if p.is_file()], ids=lambda p: p.stem)
def test_files_named_on_the_pages_exist(page):
    named = re.findall(r"\b(?:recipes|examples|benchmarks)/[\w.-]+\.(?:toml|py)\b", page.read_text(encoding="utf-8"))
    named = [name for name in named if Path(name).stem != "NAME"]  # any of them
    assert [name for name in named if not (ROOT / name).is_file()] == []
