"""Files of a study or run folder as plain values: absent is None, damaged is an error that names the file."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from scifm.errors import RunError, cause_of

__all__ = ["AGAIN", "read_model", "read_object", "read_rows", "read_text", "stored_text", "unreadable"]

Model = TypeVar("Model", bound=BaseModel)

AGAIN = "Run the command that wrote it again, or remove the file to report without it."


def stored_text(name: str) -> str:
    """Return the text of a file that lies beside this one."""
    return resources.files("scifm.report").joinpath(name).read_text(encoding="utf-8")


def unreadable(path: Path, why: object, *, remedy: str) -> RunError:
    """Return the error of a file that is there and cannot be read."""
    cause = cause_of(why) if isinstance(why, BaseException) else None
    return RunError(f"Cannot read '{path}': {cause or f'{why}. {remedy}'}")


def read_text(path: Path) -> str | None:
    """Return the text of a file, None where there is no file.

    Raises:
        RunError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, remedy=AGAIN) from error


def read_object(path: Path, *, remedy: str = AGAIN) -> dict[str, Any] | None:
    """Return the JSON object of a file, None where there is no file.

    Raises:
        RunError: if it cannot be read, is not JSON, or is no object.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, f"it is not valid JSON ({error})", remedy=remedy) from error
    if not isinstance(found, dict):
        raise unreadable(path, "it holds no JSON object", remedy=remedy)
    return found


def read_model(path: Path, model: type[Model], *, remedy: str) -> Model:
    """Return the JSON object of a file as a model; what is null there takes its default.

    Raises:
        RunError: if it cannot be read, or an entry is missing or not as expected.
    """
    tree = read_object(path, remedy=remedy) or {}
    try:
        return model.model_validate({name: value for name, value in tree.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"'{place}' is not as expected ({first['msg']})", remedy=remedy) from error


def read_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Return the rows of a Parquet file, None where there is no file.

    Raises:
        RunError: if it cannot be read, or lacks a required column.
    """
    if not path.is_file():
        return None
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, f"it is not a whole Parquet file ({error})", remedy=AGAIN) from error
    missing = [name for name in required if name not in names]
    if missing:
        why = f"it has no column {', '.join(missing)} (it has: {', '.join(names)})"
        raise unreadable(path, why, remedy=AGAIN)
    return rows
