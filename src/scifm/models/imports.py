"""Code of the user's own that a model may name: what it is allowed to be, and where it is imported from.

A file from elsewhere can name a class; it cannot say where code lies that is then run. The user does, with ``--import``
on the command line, which ends in `import_own`, or by importing the module in a program.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from scifm.errors import ConfigError

__all__ = ["VARIABLE", "import_own", "require_importable"]

VARIABLE = "SCIFM_IMPORT"
"""Environment variable that holds what `import_own` was given, for processes that are started to share the work."""

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")


def import_own(places: Iterable[str]) -> None:
    """Import modules, so that models may name classes of them; here and in every process started from here.

    Args:
        places: names of modules that Python finds, or paths of Python files.

    Raises:
        ConfigError: if one is missing or fails; it is code that you chose to run.
    """
    settled = [_import(place) for place in places]
    before = os.environ.get(VARIABLE, "").split(os.pathsep)
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(filter(None, [*before, *settled])))


def _import(place: str) -> str:
    """Import a module; return its name, or the whole path of its file."""
    path = Path(place).expanduser().resolve() if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ConfigError(f"There is no file '{place}' to import.")
    name = path.stem if path is not None else place
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{place}' is neither the name of a module nor the path of a file NAME.py.")
    if path is not None and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that no file beside it comes before an installed package
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"'{place}' cannot be imported: {type(error).__name__}: {error}") from error
    if path is None:
        return name
    if Path(str(module.__file__)).resolve() != path:
        raise ConfigError(
            f"'{place}' cannot be imported: Python already knows a '{name}', {module.__file__}. Rename it."
        )
    return str(path)


def require_importable(place: str, *, file: str | None = None) -> None:
    """Refuse to import what a recipe or a model names, unless it is known here; nothing is imported to find out.

    Known are modules of installed packages, what this program has imported itself, and what `import_own` was given.

    Args:
        place: name of the module.
        file: where it was said to lie, for the message.

    Raises:
        ConfigError: if it belongs to Python itself, or is not known.
    """
    package = place.partition(".")[0]
    if package in {*sys.stdlib_module_names, "__main__"}:
        raise ConfigError(f"'{place}' is refused: '{package}' belongs to Python itself and holds no network.")
    if place in sys.modules or package in metadata.packages_distributions():
        return
    import_own(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
    if place not in sys.modules:
        own = file or f"{place.replace('.', '/')}.py"
        raise ConfigError(
            f"'{place}' is no module of an installed package. Install its package; or, if it is code of your own that "
            f"you trust, give --import {own}, or import it before in a program."
        )
