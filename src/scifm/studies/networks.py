"""The networks of a study under names of one's own: sizes of one architecture, architectures side by side, or both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from scifm.models.operator import OperatorConfig
from scifm.training.pretrain import ModelConfig

__all__ = ["StudyModel", "architecture_names", "first_of_each", "with_models"]


class StudyModel(ModelConfig):
    """A network of a study: what `ModelConfig` says, as ``[model]`` of a pre-training does, and its share of the steps.

    Args:
        steps_factor: its optimizer steps, in pre-training and in every adaptation, over those the study says. Left at
            1, networks are compared after equal steps; ``scifm study --dry-run`` measures which give equal time.
    """

    steps_factor: float = Field(1.0, gt=0, allow_inf_nan=False)

    def plain(self) -> ModelConfig:
        """Return the operator, every setting of its network said."""
        return ModelConfig(network=self.resolve(), normalization=self.normalization)

    def steps(self, num_steps: int) -> int:
        """Return its steps where the study says `num_steps`."""
        return max(1, round(num_steps * self.steps_factor))


def with_models(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a recipe with every network under ``models``, its normalization said.

    ``networks``, how recipes of before said them (settings and ``kind`` in one table), is read on; such a recipe also
    names its ``sizes``. Otherwise these are all ``models`` where they are left out.

    Raises:
        ValueError: if a name is in both.
    """
    done = dict(tree)
    former, models = done.pop("networks", None) or {}, done.get("models") or {}
    if not (isinstance(former, Mapping) and isinstance(models, Mapping)):
        return dict(tree)  # the fields say what is wrong with them
    twice = next((name for name in models if name in former), None)
    if twice is not None:
        raise ValueError(f"'{twice}' is in models and in networks; say it once, in models")
    if models and "sizes" not in done:
        done["sizes"] = list(models)
    shared = {"normalization": done["normalization"]} if "normalization" in done else {}
    every = {name: _former(network) for name, network in former.items()} | dict(models)
    if every:
        done["models"] = {
            name: {**shared, **model} if isinstance(model, Mapping) else model for name, model in every.items()
        }
    return done


def _former(network: Any) -> Any:
    """Return what ``networks`` said of one as ``models`` says it."""
    if isinstance(network, OperatorConfig):
        return {"network": network}
    if not isinstance(network, Mapping):
        return network
    settings = {name: value for name, value in network.items() if name != "kind"}
    return {**({"kind": network["kind"]} if "kind" in network else {}), "network": settings}


def architecture_names(models: Mapping[str, StudyModel]) -> dict[str, str]:
    """Return for every network, by name, what its architecture is called.

    Networks are sizes of one architecture where only settings that make them larger differ
    (`OperatorConfig.architecture`) and numbers are brought to order one alike. An architecture of one network is called
    like it; one of several by its kind, where no other is, else by all their names.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, model in models.items():
        groups[model.resolve().architecture(), model.normalization].append(name)
    kinds = [models[names[0]].kind for names in groups.values()]
    called: dict[str, str] = {}
    for names in groups.values():
        kind = models[names[0]].kind
        alone = kinds.count(kind) == 1 and (kind in names or kind not in models)
        label = names[0] if len(names) == 1 else kind if alone else ", ".join(names)
        called |= dict.fromkeys(names, label)
    return {name: called[name] for name in models}


def first_of_each(names: Iterable[str], architectures: Mapping[str, str]) -> list[str]:
    """Return the first network of every architecture among some."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(architectures[name], name)
    return list(first.values())
