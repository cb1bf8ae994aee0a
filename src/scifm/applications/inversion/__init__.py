"""Inverse problems: from what a few receivers recorded to source, coefficients or medium, checked by the solver."""

from scifm.applications.inversion.asking import InvertRecipe
from scifm.applications.inversion.inverting import invert
from scifm.applications.inversion.making import ObserveRecipe, observe
from scifm.applications.inversion.observations import Observations, observed, read_observations

__all__ = ["InvertRecipe", "Observations", "ObserveRecipe", "invert", "observe", "observed", "read_observations"]
