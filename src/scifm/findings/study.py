"""What a transfer study tells: the models that `studies` returns, ``analysis.json`` holds and `report` draws.

Every number may be None: it could not be computed. Parts that a study does not have are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from scifm.findings.finding import Finding
from scifm.findings.part import Number, Part

__all__ = [
    "Analysis",
    "Converged",
    "Crossover",
    "ErrorCurve",
    "ErrorPoint",
    "FrontierPoint",
    "Gain",
    "JointScaling",
    "Law",
    "Mixing",
    "Need",
    "Parameter",
    "Scaling",
    "ScalingAxis",
    "ScalingPoint",
    "Shift",
    "ShiftMeasure",
    "ShiftTask",
    "Size",
    "Source",
    "Target",
    "Versus",
]


class Target(Part):
    """A task: a system with shifted knobs."""

    name: str
    system: str
    label: str = ""
    knobs: Mapping[str, Any] = Field(default_factory=dict)


class Source(Part):
    """A pre-training."""

    name: str
    systems: tuple[str, ...] = ()
    label: str = ""
    num_pretrain_samples: int | None = None


class Size(Part):
    """A network under its name: a size of an architecture, or an architecture of its own.

    Sizes of one `architecture` may be joined by a line; of studies made before there were several it is empty. Times
    are wall time, medians over runs: `seconds_per_step` of pre-trainings, validation included. `steps_factor`: its
    optimizer steps over those the study says.
    """

    name: str
    num_params: int = Field(gt=0)
    kind: str = ""
    architecture: str = ""
    normalization: str = ""
    steps_factor: float = 1.0
    seconds_per_step: Number = None
    pretrain_seconds: Number = None
    adapt_seconds: Number = None


class ErrorPoint(Part):
    """Mean relative L2 errors of the seeds on one number of samples: median, interval, each value with its run."""

    num_samples: int = Field(ge=0)
    median: Number = None
    low: Number = None
    high: Number = None
    values: tuple[Number, ...] = ()
    runs: tuple[str | None, ...] = ()


class ErrorCurve(Part):
    """Errors of one way (source, size, method) on one task."""

    kind: Literal["few_shot", "from_scratch", "from_scratch_converged", "zero_shot", "in_distribution"]
    source: str = ""
    target: str
    size: str
    method: str = ""
    points: tuple[ErrorPoint, ...] = ()


class _OnTask(Part):
    source: str
    target: str
    size: str
    method: str = ""


class Gain(_OnTask):
    """Error from scratch over error fine-tuned, on as many samples."""

    num_samples: int
    gain: Number = None
    low: Number = None
    high: Number = None
    negative: bool | None = None


class Need(_OnTask):
    """How many samples fine-tuning needs for what training from scratch reaches on `reference_samples`."""

    reference_samples: int
    reference_error: Number = None
    needed: Number = None
    ratio: Number = None
    ratio_low: Number = None
    ratio_high: Number = None
    bound: Literal["at most", "more than"] | None = None


class Worth(_OnTask):
    """On how many samples training from scratch is as good as fine-tuning on `num_samples`."""

    num_samples: int
    as_good_as: Number = None
    low: Number = None
    high: Number = None
    bound: Literal["at most", "more than"] | None = None

    @property
    def sign(self) -> str:
        """What stands before the number where it is a bound."""
        return {"more than": "≥ ", "at most": "≤ ", None: ""}[self.bound]


class Converged(_OnTask):
    """Error from scratch where training went on as long as its held-out error fell, beside that of the equal budget."""

    num_samples: int
    error: Number = None
    low: Number = None
    high: Number = None
    equal: Number = None
    num_steps: tuple[int, ...] = ()
    num_limited: int = 0
    fewest: int | None = None


class Crossover(_OnTask):
    """The number of samples from which training from scratch is as good, None where none was measured."""

    num_samples: Number = None
    told: str = ""


class ShiftMeasure(Part):
    """A measure of how far a task lies from the pre-training, and how well its order is that of the errors."""

    name: str
    label: str = ""
    rank_correlation: Number = None
    num_tasks: int | None = None
    p_value: Number = None
    within: Mapping[str, Number] = Field(default_factory=dict)


class ShiftTask(Part):
    """Zero-shot error and values of the measures on one task."""

    source: str
    target: str
    size: str
    zero_shot: Number = None
    values: Mapping[str, Number] = Field(default_factory=dict)


class Versus(_OnTask):
    """Error of the network `size` over that of `other`, of another architecture, the same way on as many samples."""

    kind: Literal["zero_shot", "few_shot", "from_scratch"]
    other: str
    num_samples: int
    ratio: Number = None
    low: Number = None
    high: Number = None


class Shift(Part):
    """Measures of the shift against zero-shot errors; `size`: the network whose tasks were ranked."""

    size: str = ""
    measures: tuple[ShiftMeasure, ...] = ()
    tasks: tuple[ShiftTask, ...] = ()


class Mixing(Part):
    """Error fine-tuned from a mixture over error fine-tuned from the specialist."""

    target: str
    size: str
    num_samples: int
    specialist: str
    mixture: str
    contains_system: bool
    specialist_error: Number = None
    mixture_error: Number = None
    ratio: Number = None
    low: Number = None
    high: Number = None
    scratch_error: Number = None


class ScalingPoint(Part):
    """Errors of the seeds at one place of an axis."""

    x: float
    values: tuple[Number, ...] = ()


class Law(Part):
    """A fitted law, as text and on a grid to draw."""

    form: str = ""
    text: str = ""
    grid_x: tuple[Number, ...] = ()
    grid_y: tuple[Number, ...] = ()


class ScalingAxis(Part):
    """Error against one axis of scale, samples, size or compute, of one architecture: empty where there is but one."""

    axis: str
    architecture: str = ""
    label: str = ""
    points: tuple[ScalingPoint, ...] = ()
    law: Law | None = None
    verdict: str = ""
    told: str = ""


class FrontierPoint(Part):
    """The best split of one budget of pre-training."""

    flops: float
    num_params: float
    num_samples: float
    error: float
    at_edge: bool = False


class Parameter(Part):
    """A fitted number and its interval."""

    value: float
    low: Number = None
    high: Number = None


class JointScaling(Part):
    """The law of size and samples together of one architecture, and how far it misses the largest cell without it."""

    architecture: str = ""
    text: str | None = None
    told: str = ""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    held_out_error: Number = None
    frontier: tuple[FrontierPoint, ...] = ()


class Scaling(Part):
    """Laws along each axis of scale, and of size and samples together."""

    axes: tuple[ScalingAxis, ...] = ()
    joints: tuple[JointScaling, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_joint(cls, parts: Any) -> Any:  # how studies of one architecture were written before there were several
        if isinstance(parts, Mapping) and parts.get("joint") is not None:
            return {**parts, "joints": [parts["joint"]]}
        return parts


class Analysis(Part):
    """``analysis.json``.

    `seconds` is wall time over all sittings; `seconds_by_part` that of the runs, added up: ``pretrain`` and ``adapt``.
    """

    title: str = ""
    num_test_samples: int | None = None
    num_seeds: int | None = None
    level: float | None = Field(default=None, gt=0, lt=1)
    verdict: tuple[Finding, ...] = ()
    targets: tuple[Target, ...]
    sources: tuple[Source, ...] = ()
    sizes: tuple[Size, ...] = ()
    curves: tuple[ErrorCurve, ...]
    gains: tuple[Gain, ...] = ()
    versus: tuple[Versus, ...] = ()
    needs: tuple[Need, ...] = ()
    worths: tuple[Worth, ...] = ()
    converged: tuple[Converged, ...] = ()
    crossovers: tuple[Crossover, ...] = ()
    shift: Shift = Shift()
    mixing: tuple[Mixing, ...] = ()
    scaling: Scaling = Scaling()
    audits: tuple[Finding, ...] = ()
    seconds: Number = None
    seconds_by_part: Mapping[str, float] = Field(default_factory=dict)

    @property
    def architectures(self) -> dict[str, tuple[Size, ...]]:
        """The networks that were moved or trained on tasks, by architecture, each smallest first."""
        used = {curve.size for curve in self.curves if curve.kind != "in_distribution"}
        groups: dict[str, list[Size]] = {}
        for size in self.sizes:
            if size.name in used:
                groups.setdefault(size.architecture, []).append(size)
        return {name: tuple(sorted(own, key=lambda size: (size.num_params, size.name))) for name, own in groups.items()}
