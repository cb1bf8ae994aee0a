"""What the training of a run began with: its parent, or its first weights, built again from its seed."""

from __future__ import annotations

from scifm.errors import ConfigError, RunError
from scifm.models.folder import ModelPlace
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.training.pretrain import build_operator

__all__ = ["never_trained", "operator_before"]


def never_trained(operator: Operator, *, seed: int) -> Operator | None:
    """Return an operator of the same architecture and scalings with fresh weights.

    Returns:
        None where it cannot be built anew, such as a network that was wrapped from an object.
    """
    try:
        return build_operator(operator.signature, operator.config, operator.normalization, seed=seed)
    except ConfigError:
        return None


def operator_before(model: ModelPlace, operator: Operator) -> tuple[Operator, str] | None:
    """Return the operator that the training of a run began with, and in words what it is.

    Of a run that was fine-tuned this is its parent, where that is still there. Of one that was trained from fresh
    weights these are drawn again from its seed, as this version of the library draws them.

    Args:
        model: where the operator lies.
        operator: what was trained: its signature and its architecture are those of the first weights.

    Returns:
        None where nobody can tell: a model without its run, a parent that is gone, a network that cannot be built anew.

    Raises:
        RunError: if the run says of its parent what is no path.
    """
    run = model.run
    if run is None:
        return None
    if run.parent is not None:
        return _parent(run)
    config = run.config
    if run.kind not in ("pretrain", "from_scratch") or not isinstance(config.get("seed"), int):
        return None
    first = never_trained(operator, seed=config["seed"])
    return None if first is None else (first.eval(), f"its first weights, seed {config['seed']}")


def _parent(run: Run) -> tuple[Operator, str] | None:
    parent = run.parent
    if parent is None or not parent.is_dir():
        return None
    inside = parent / "model"
    try:
        return load_operator(inside if inside.is_dir() else parent), f"'{parent.name}', which it was fine-tuned from"
    except RunError:  # it was emptied, or holds another model by now that nobody can read
        return None
