"""What a recipe may say of the operator, and what adapting has no use for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializeAsAny, ValidationInfo, field_validator, model_validator

from scifm.config import Config, refuse_idle
from scifm.models.operator import OperatorConfig
from scifm.models.registry import DEFAULT_KIND, operator_class, settings_of, settings_of_size
from scifm.training.loop import TrainingConfig

__all__ = ["ModelConfig", "refuse_beside_candidates"]


class ModelConfig(Config):
    """The operator: one dial of size, or every setting.

    Args:
        kind: a name of ``scifm.models.OPERATORS``; taken from `network` where that is a configuration already.
        size: a name of ``scifm.models.SIZES``, for a kind that has sizes.
        network: settings of that kind, instead of `size`.
        normalization: how numbers are brought to order one; see ``scifm.data.fit_normalization``.
    """

    kind: str = DEFAULT_KIND
    size: str | None = None
    network: SerializeAsAny[OperatorConfig] | None = None
    normalization: Literal["homogeneous", "joint", "constant"] = "homogeneous"

    @model_validator(mode="before")
    @classmethod
    def _kind_of_settings(cls, value: Any) -> Any:
        if isinstance(value, dict) and "kind" not in value and isinstance(value.get("network"), OperatorConfig):
            return {**value, "kind": value["network"].kind}
        return value

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        operator_class(value)
        return value

    @field_validator("network", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or "kind" not in info.data:  # a kind nobody knows is told alone
            return None
        return settings_of(info.data["kind"], value)

    @model_validator(mode="after")
    def _one_of_two(self) -> ModelConfig:
        has_sizes = bool(operator_class(self.kind).config_class.sizes)
        if self.size is not None and not has_sizes:
            raise ValueError(f"a '{self.kind}' comes in no sizes; say what it is in model.network")
        if self.size is not None and self.network is not None:
            raise ValueError("give either size or network, not both")
        if self.network is None and not has_sizes:
            raise ValueError(f"kind '{self.kind}' needs its settings: give [model.network]")
        return self

    def resolve(self) -> OperatorConfig:
        """Return the complete architecture.

        Raises:
            ConfigError: if the size is unknown.
        """
        return self.network or settings_of_size(self.size or "small", self.kind)


def refuse_beside_candidates(training: TrainingConfig) -> None:
    """Refuse settings of a training that have no effect where candidates of learning rates are tried.

    Raises:
        ConfigError: names the first of them.
    """
    for name, why in (
        ("learning_rate", "candidates stand in learning_rates"),
        ("patience", "adapting trains on all samples and validates on none"),
        ("validation_metric", "adapting trains on all samples and validates on none"),
        ("strategy", "one process adapts"),
    ):
        refuse_idle(training, (name,), why, prefix="training.")
