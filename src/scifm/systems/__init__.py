"""Equations with knobs, each a documented file of its own: what is sampled, solved and checked.

A system is a file here and a line in ``SYSTEMS`` (`catalog`), or an entry point ``scifm.systems`` of another package;
`contract` holds it to what it says. ``solvers/`` serve several of them; forcings and knobs are shared. What may not
live here: a network (systems never import models), a file format, anything learned.
"""

from scifm.systems.acoustic import Acoustic
from scifm.systems.advected_step import AdvectedStep
from scifm.systems.advection import Advection
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.allen_cahn import AllenCahn
from scifm.systems.burgers import Burgers
from scifm.systems.burgers_ramp import BurgersRamp
from scifm.systems.catalog import SYSTEMS, available_systems, find_system, system_from_dict
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.convection import Convection
from scifm.systems.damped_oscillator import DampedOscillator
from scifm.systems.euler import Euler
from scifm.systems.evolving import Evolving
from scifm.systems.fisher_kpp import FisherKPP
from scifm.systems.fitzhugh_nagumo import FitzHughNagumo
from scifm.systems.forcing import GaussianForcing
from scifm.systems.gray_scott import GrayScott
from scifm.systems.heat import Heat
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.helmholtz_medium import HelmholtzMedium
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.systems.initial import RandomWaves
from scifm.systems.initial_cells import CellFields
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.knobs import Knob
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.moving_textures import MovingTextures
from scifm.systems.navier_stokes import NavierStokes
from scifm.systems.poisson import Poisson
from scifm.systems.porous_medium import PorousMedium
from scifm.systems.reaction import Reaction
from scifm.systems.reaction_diffusion import ReactionDiffusion
from scifm.systems.scalar_evolution import ScalarEvolution
from scifm.systems.shallow_water import ShallowWater
from scifm.systems.stefan import Stefan
from scifm.systems.system import SamplingRecord, System

__all__ = [
    "SYSTEMS",
    "Acoustic",
    "AdvectedStep",
    "Advection",
    "AdvectionDiffusion",
    "AllenCahn",
    "Burgers",
    "BurgersRamp",
    "CellFields",
    "CompressibleNavierStokes",
    "Convection",
    "DampedOscillator",
    "Euler",
    "Evolving",
    "FisherKPP",
    "FitzHughNagumo",
    "GaussianForcing",
    "GrayScott",
    "Heat",
    "Helmholtz",
    "HelmholtzMedium",
    "IncompressibleFlow",
    "Knob",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "MovingTextures",
    "NavierStokes",
    "Poisson",
    "PorousMedium",
    "RandomWaves",
    "Reaction",
    "ReactionDiffusion",
    "SamplingRecord",
    "ScalarEvolution",
    "ShallowWater",
    "Stefan",
    "System",
    "available_systems",
    "find_system",
    "system_from_dict",
]
