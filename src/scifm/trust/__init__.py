"""Questions put to a trained operator; every answer is a `Finding`.

A check is one configured object, `Check`, in one file: it says what it asks, its statistic, its threshold and why, and
when it does not apply. ``CHECKS`` lists those that `examine.check_operator` and ``scifm check`` ask. A new one is a
file and a line here; `scifm.trust.contract` holds it to telling a known-good operator from a known-bad one.

What may not live here: what trains or scores a run (below), and what asks of many runs at once (studies, above).
`distillation` is a sibling, and neither knows the other. Nothing here changes the operator that it asks.
"""

from scifm.trust.abstention import Abstention
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.conservation import Conservation
from scifm.trust.continuity import Continuity
from scifm.trust.curvature import Curvature
from scifm.trust.extrapolation import Extrapolation
from scifm.trust.landscape import LossLandscape
from scifm.trust.lead_times import LeadTimes
from scifm.trust.overfit import OverfitOneBatch
from scifm.trust.persistence import Persistence
from scifm.trust.probe import Probe
from scifm.trust.promises import Coverage, Spread
from scifm.trust.receptive_field import ReceptiveField
from scifm.trust.resolution import Resolution
from scifm.trust.scales import Scales
from scifm.trust.shift_equivariance import ShiftEquivariance
from scifm.trust.shuffled_truths import ShuffledTruths
from scifm.trust.waves import Waves
from scifm.trust.weight_spectra import WeightSpectra

CHECKS: dict[str, type[Check]] = {
    "receptive_field": ReceptiveField,
    "persistence": Persistence,
    "shuffled_truths": ShuffledTruths,
    "scales": Scales,
    "shift_equivariance": ShiftEquivariance,
    "resolution": Resolution,
    "waves": Waves,
    "extrapolation": Extrapolation,
    "lead_times": LeadTimes,
    "coverage": Coverage,
    "spread": Spread,
    "abstention": Abstention,
    "weight_spectra": WeightSpectra,
    "curvature": Curvature,
    "landscape": LossLandscape,
    "conservation": Conservation,
    "continuity": Continuity,
    "probe": Probe,
    "overfit_one_batch": OverfitOneBatch,
}
"""Every check by name, in the order in which they are asked: what trains comes last, where a budget may end."""

__all__ = [
    "CHECKS",
    "Abstention",
    "Case",
    "Check",
    "Conservation",
    "Continuity",
    "Coverage",
    "Curvature",
    "Extrapolation",
    "LeadTimes",
    "LossLandscape",
    "OverfitOneBatch",
    "Persistence",
    "Probe",
    "ReceptiveField",
    "Resolution",
    "Scales",
    "ShiftEquivariance",
    "ShuffledTruths",
    "Spread",
    "Waves",
    "WeightSpectra",
]
