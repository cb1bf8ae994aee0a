"""`invert`: from what a few receivers recorded to source, coefficients or medium, checked by the solver."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scifm.applications.accounts import keep_account
from scifm.applications.inversion.asking import InvertRecipe, Progress, inverted
from scifm.applications.inversion.observations import read_observations
from scifm.applications.inversion.telling import account_of, arrays_of
from scifm.config import config_hash
from scifm.data.run_origin import RunOrigin
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.findings.account import Account
from scifm.models.folder import digest, find_model
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.system import System

__all__ = ["invert"]


def invert(
    run: Run | str | Path,
    data: str | Path | Sequence[str | Path],
    recipe: InvertRecipe | None = None,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Account:
    """Search for what receivers do not tell, and ask the solver whether it agrees.

    Args:
        run: a run, or a model, that was trained on steady problems in a plane.
        data: file of recordings, see `scifm.applications.inversion.observations`; several are of the same unknowns,
            such as one medium and waves of several wavenumbers.
        recipe: how; the defaults when left out.
        out: folder of the account.
        progress: told how many searches of how many are done.

    Returns:
        The account, also written to account.json in `out`.

    Raises:
        ConfigError: if a setting makes no sense, or nothing says what the run was trained on.
        DataError: if the file cannot be read, or does not fit.
        RunError: if there is no readable model, or the folder holds something else or cannot be written.
        SignatureError: if the problem is none of steady fields in a plane.
    """
    recipe, place = recipe or InvertRecipe(), find_model(run)
    operator, recorded = load_operator(place.folder), RunOrigin.of_model(place)
    if recorded is None:
        raise ConfigError(f"'{place.path}' does not say what it was trained on, and beliefs are told by that.")
    origin = recorded.resolved()
    names = operator.signature
    if names.evolves or names.num_spatial_dims != 2:
        raise SignatureError(
            "Recordings are inverted of steady fields in a plane; this model answers "
            f"{'what evolves' if names.evolves else f'fields in {names.num_spatial_dims} dimensions'}."
        )
    files = [Path(data)] if isinstance(data, str | Path) else [Path(own) for own in data]
    if not files:
        raise ConfigError("Give at least one file of recordings.")
    seen = [read_observations(own, names, origin.grid) for own in files]
    parent = config_hash(place.run.config) if place.run is not None else digest(place.folder)
    about = {"parent": parent, "recordings": "-".join(map(_digest_of, files))}
    work = Run.claim(out, {"kind": "invert", **recipe.to_dict(), "about": about})
    with work.locked():
        work.set_status("running")
        begin, system = _earlier(recipe), _system_of(recorded)
        made = inverted(operator, origin, seen, recipe, begin=begin, system=system, progress=progress)
        account = account_of(made, recipe, model=str(place.path), data=", ".join(map(str, files)))
        work.note_time()
        keep_account(work, account, arrays_of(made, recipe))
    return account


def _system_of(recorded: RunOrigin) -> System | None:
    """Return the one system that drew the samples, of a store the one that made it; None: nobody knows it."""
    with suppress(RunError, ConfigError):  # imported samples, or a system that is not installed
        systems = recorded.systems()
        return systems[0] if len(systems) == 1 else None
    return None


def _earlier(recipe: InvertRecipe) -> Tensor | None:
    """Return z of the answer that searches begin at; None: there is none."""
    if recipe.begin is None:
        return None
    file = Path(recipe.begin) / "account.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return torch.tensor(stored["z"], dtype=torch.float64)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"'{recipe.begin}' is not the folder of an earlier inversion: its account.npz cannot be read ({error})."
        ) from error


def _digest_of(path: Path) -> str:
    """Return a short hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
