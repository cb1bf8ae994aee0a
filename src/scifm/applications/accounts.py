"""Keeping what an application found: in a folder of its own, where the page of an account finds it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scifm.findings.account import Account
from scifm.runs import Run, write_atomically

__all__ = ["keep_account"]


def keep_account(work: Run, account: Account, arrays: Mapping[str, NDArray[np.floating]] | None = None) -> None:
    """Write an account and the fields that its maps show into a folder, which is complete then.

    Args:
        work: the folder; its lock is the caller's.
        account: what was found.
        arrays: by the names that the maps say, fields ``(y, x)``, and whatever else is worth keeping.

    Raises:
        RunError: if they cannot be written.
        ValueError: if a map shows an array that is not given, or one that is no plane.
    """
    arrays = dict(arrays or {})
    for name in sorted(account.arrays):
        if name not in arrays or arrays[name].ndim != 2:
            shape = arrays[name].shape if name in arrays else "nothing"
            raise ValueError(f"A map shows the array '{name}', which is a plane (y, x); given is {shape}.")
    if arrays:
        target = io.BytesIO()
        np.savez_compressed(target, allow_pickle=False, **arrays)
        write_atomically(work.path / "account.npz", target.getvalue())
    account.write(work.path / "account.json")
    work.set_status("complete")
