"""Equations with knobs, each a documented file of its own: what is sampled, solved and checked.

A system is a file here and a line in ``SYSTEMS`` (`catalog`), or an entry point ``scifm.systems`` of another package;
`contract` holds it to what it says. ``solvers/`` serve several of them; forcings and knobs are shared. What may not
live here: a network (systems never import models), a file format, anything learned.
"""

from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.catalog import SYSTEMS, available_systems, find_system, system_from_dict
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.euler import Euler
from scifm.systems.forcing import GaussianForcing
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.initial_cells import CellFields
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.shallow_water import ShallowWater
from scifm.systems.system import SamplingRecord, System

__all__ = [
    "SYSTEMS",
    "AdvectionDiffusion",
    "CellFields",
    "CompressibleNavierStokes",
    "Euler",
    "GaussianForcing",
    "Helmholtz",
    "Knob",
    "Poisson",
    "SamplingRecord",
    "ShallowWater",
    "System",
    "available_systems",
    "find_system",
    "system_from_dict",
]
