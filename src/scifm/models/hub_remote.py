"""Operators on the Hugging Face hub: the folder of `hub`, fetched and sent."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scifm.errors import ConfigError, RunError
from scifm.models.hub import FILES, fetch_model, load_operator, refusal, save_operator
from scifm.models.model_card import ModelCard
from scifm.models.operator import Operator

__all__ = ["load_pretrained", "push_to_hub"]

_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def load_pretrained(
    path_or_id: str | Path, *, revision: str | None = None, module: nn.Module | None = None
) -> Operator:
    """Load an operator from a folder, or from the hub, where its four files alone are fetched.

    Args:
        path_or_id: a folder, of a model or of a finished run, or ``name/model``; a folder that is there wins.
        revision: branch, tag or commit on the hub.
        module: see `load_operator`.

    Raises:
        ConfigError: if a revision is asked of a folder.
        RunError: if there is no such model, the hub cannot be reached, or a file is missing or damaged.
    """
    path = Path(path_or_id)
    if path.is_dir():
        if revision is not None:
            raise ConfigError(f"'{path}' is a folder, and a folder has no revision '{revision}': leave it out.")
        return load_operator(path, module=module)
    if isinstance(path_or_id, Path) or not _ID.fullmatch(path_or_id) or path_or_id.startswith("."):
        raise RunError(f"There is no folder '{path_or_id}', and it is no id of the hub, which reads name/model.")
    return load_operator(fetch_model(path_or_id, revision=revision), module=module)


def push_to_hub(
    operator: Operator,
    repo_id: str,
    *,
    private: bool = False,
    branch: str | None = None,
    token: str | None = None,
    card: ModelCard | Mapping[str, Any] | None = None,
) -> str:
    """Upload an operator; the repository and the branch are made when they are not there.

    Args:
        operator: what to upload.
        repo_id: ``name/model``.
        private: whether a new repository is hidden from others.
        branch: of the repository; ``main`` when left out.
        token: of an account that may write; the one stored by ``hf auth login`` when left out.
        card: what only you can say about it, see `ModelCard`.

    Returns:
        The address of the model.

    Raises:
        ConfigError: if the card has settings it does not know.
        RunError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save_operator(operator, folder, card=card)
        try:
            api = HfApi(token=token, library_name="scifm")
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            if branch is not None:
                api.create_branch(repo_id, branch=branch, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=branch,
                allow_patterns=list(FILES),
                commit_message=f"A {operator.kind} operator with {operator.num_params} weights",
            )
        except Exception as error:
            raise refusal(f"The model cannot be uploaded to '{repo_id}'", error) from error
    return str(address)
