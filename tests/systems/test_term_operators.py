"""The operators of terms, on fields whose derivatives are known by heart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.derivatives import DifferenceDerivatives, SpectralDerivatives
from scifm.fields.grid import Grid
from scifm.fields.spectral import divergence, gradient
from scifm.fields.term import Term
from scifm.systems.advection import Advection
from scifm.systems.burgers import Burgers
from scifm.systems.contract import SystemContract
from scifm.systems.evolving import Evolving
from scifm.systems.evolving_contract import EvolvingContract
from scifm.systems.gray_scott import GrayScott
from scifm.systems.heat import Heat
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.initial import RandomWaves
from scifm.systems.system import System
from scifm.systems.term_operators import is_known, right_hand_side

GRID = Grid((20, 24), (2.0, 3.0), (True, True))
Y, X = torch.meshgrid(torch.arange(20).double() * 0.1, torch.arange(24).double() * 0.125, indexing="ij")
KY, KX = 2 * math.pi / 2.0, 2 * 2 * math.pi / 3.0
U = torch.sin(KX * X) * torch.cos(KY * Y)
V = torch.cos(KX * X) + 0.5
SX, CX, SY, CY = torch.sin(KX * X), torch.cos(KX * X), torch.sin(KY * Y), torch.cos(KY * Y)
SQUARE = KX**2 + KY**2
BOTH = SpectralDerivatives({"u": U[None], "v": V[None]}, GRID)


@pytest.mark.parametrize(
    ("operator", "fields", "expected"),
    [
        ("one", (), torch.ones_like(U)),
        ("value", ("u",), U),
        ("square", ("u",), U**2),
        ("cube", ("u",), U**3),
        ("product", ("u", "v", "v"), U * V * V),
        ("derivative_x", ("u",), KX * CX * CY),
        ("derivative_y", ("u",), -KY * SX * SY),
        ("derivative_xx", ("u",), -(KX**2) * U),
        ("derivative_xy", ("u",), -KX * KY * CX * SY),
        ("derivative_xxx", ("u",), -(KX**3) * CX * CY),
        ("derivative_yyxx", ("u",), KX**2 * KY**2 * U),
        ("laplacian", ("u",), -SQUARE * U),
        ("bilaplacian", ("u",), SQUARE**2 * U),
        ("advection", ("u", "v", "u"), V * KX * CX * CY - U * KY * SX * SY),
        # −Δψ = u: v = (∂ψ/∂y, −∂ψ/∂x) follows the lines of ψ, and so of u, which is a multiple of it
        ("vorticity_advection", ("u",), torch.zeros_like(U)),
    ],
)
def test_of_a_plane_wave(operator, fields, expected):
    coefficient = torch.tensor([3.0], dtype=torch.float64)
    term = Term(operator, fields, of="u", coefficient="a", factor=-0.5)
    made = right_hand_side([term], BOTH, {"a": coefficient})
    assert (made["u"][0] + 1.5 * expected).abs().max() < 1e-9 * max(1.0, float(expected.abs().max()))


def test_velocity_is_that_of_a_vorticity():
    """Two waves: ω = sin kx·x + cos ky·y has v = (−sin(ky y)/ky, −cos(kx x)/kx)."""
    vorticity = SX + CY
    made = right_hand_side(
        [Term("vorticity_advection", ("w",), of="w")], SpectralDerivatives({"w": vorticity[None]}, GRID), {}
    )
    v_x, v_y = -SY / KY, -CX / KX
    expected = v_x * KX * CX + v_y * -KY * SY
    assert (made["w"][0] - expected).abs().max() < 1e-9
    assert expected.abs().max() > 0.1


def test_terms_of_one_equation_add_up():
    terms = [Term("value", ("u",), of="v"), Term("value", ("v",), of="v", factor=2.0), Term("one", (), of="u")]
    made = right_hand_side(terms, BOTH, {})
    assert torch.equal(made["v"][0], U + 2 * V)
    assert set(made) == {"u", "v"}


def test_what_nobody_knows_is_told():
    assert not is_known("derivative_")
    assert not is_known("derivative_xw")
    assert not is_known("radiation")
    with pytest.raises(SignatureError, match=r"how to compute the operator 'radiation' of \+ radiation\(u\)"):
        right_hand_side([Term("radiation", ("u",), of="u")], BOTH, {})


@pytest.mark.parametrize("boundary", ["periodic", "bounded"])
@pytest.mark.parametrize("axes", ["x", "yy", "xxx", "xy", "xxyy"])
def test_differences_come_nearer_by_the_square_of_the_spacing(axes, boundary):
    def off(points: int) -> float:
        grid = Grid((points, points), (2.0, 3.0), boundary)
        y, x = torch.meshgrid(*grid.coordinates(), indexing="ij")
        shift = math.pi / 2  # a derivative of a wave is the wave a quarter of a turn on
        along_x, along_y = axes.count("x"), axes.count("y")

        def wave(in_x: float, in_y: float) -> Tensor:
            apart = torch.sin(KX * x + in_x) * torch.cos(KY * y + in_y)
            return (apart + 0.3 * torch.cos(KX * x + KY * y + in_x + in_y))[None]

        exact = KX**along_x * KY**along_y * wave(along_x * shift, along_y * shift)
        return float((DifferenceDerivatives({"u": wave(0, 0)}, grid).along("u", axes) - exact).abs().max())

    # at walls a difference of one-sided differences is of first order
    assert off(64) / off(128) > (3.5 if boundary == "periodic" or axes in ("x", "yy") else 1.8)


def test_a_flow_without_divergence_carries_what_pressure_leaves():
    """Two waves, v = (sin ky y, cos kx x): of v·∇v = (cos kx x · ky cos ky y, …) what is left has no divergence."""
    v_x, v_y = SY[None], CX[None]
    fields = SpectralDerivatives({"v_x": v_x, "v_y": v_y, "mean": 0 * v_x + 3.0}, GRID)
    terms = [Term(f"solenoidal_advection_{along}", ("v_x", "v_y"), of=f"v_{along}") for along in "xy"]
    made = right_hand_side(terms, fields, {})
    carried = (v_y * KY * CY, -v_x * KX * SX)
    taken = [one - other for one, other in zip(carried, (made["v_x"], made["v_y"]), strict=True)]
    assert divergence((made["v_y"], made["v_x"]), GRID).abs().max() < 1e-12
    curl = gradient(taken[1], GRID)[1] - gradient(taken[0], GRID)[0]
    assert curl.abs().max() < 1e-11 < 0.1 < max(float(part.abs().max()) for part in taken)
    part = right_hand_side(
        [Term("solenoidal_x", ("v_x",), of="v_x"), Term("solenoidal_y", ("mean",), of="v_y")], fields, {}
    )
    assert (part["v_x"] - v_x).abs().max() < 1e-12, "it has no divergence"
    assert part["v_y"].abs().max() < 1e-12, "and this is a mean"
    with pytest.raises(SignatureError, match="'solenoidal_z' of 1 component has no meaning in 2 dimensions"):
        right_hand_side([Term("solenoidal_z", ("v_x",), of="v_x")], fields, {})
    points = DifferenceDerivatives({"v_x": v_x}, GRID)
    with pytest.raises(SignatureError, match="'solenoidal_x' needs whole fields on a periodic grid"):
        right_hand_side([Term("solenoidal_x", ("v_x",), of="v_x")], points, {})


def test_what_needs_whole_fields_refuses_others():
    fields = DifferenceDerivatives({"w": U[None]}, GRID)
    with pytest.raises(SignatureError, match="needs whole fields on a periodic grid"):
        right_hand_side([Term("vorticity_advection", ("w",), of="w")], fields, {})


@pytest.mark.parametrize(
    "system",
    [
        Burgers(num_spatial_dims=2, num_frames=2),
        Advection(num_spatial_dims=3, num_frames=2, initial_state=RandomWaves(max_wave=3)),
        Heat(num_spatial_dims=3, num_frames=2, initial_state=RandomWaves(max_wave=3)),
        GrayScott(num_spatial_dims=1, num_frames=2),
        Helmholtz(sign="slides"),
    ],
    ids=lambda system: f"{system.name}-{system.signature.num_spatial_dims}",
)
def test_terms_follow_the_options_of_a_system(system: System):
    contract = EvolvingContract() if isinstance(system, Evolving) else SystemContract()
    contract.system = system
    contract.test_terms_name_what_there_is()
    if isinstance(contract, EvolvingContract):
        contract.test_the_march_follows_the_equation()
    else:
        contract.test_terms_are_the_equation()


def test_a_wrong_term_is_found():
    class Wrong(Heat):
        terms = (Term("laplacian", ("temperature",), of="temperature", coefficient="diffusivity", factor=-1.0),)

    contract = EvolvingContract()
    contract.system = Wrong(num_spatial_dims=1, num_frames=2)
    with pytest.raises(AssertionError, match="changes otherwise than the right-hand side says: 2"):
        contract.test_the_march_follows_the_equation()

    class Both(Heat):
        terms = Wrong.terms

        def tendency(self, inputs, coefficients, grid):
            return Heat().tendency(inputs, coefficients, grid)

    contract.system = Both(num_spatial_dims=1, num_frames=2)
    contract.test_the_march_follows_the_equation()
    with pytest.raises(AssertionError, match="differs from the system's by 2"):
        contract.test_terms_are_the_equation()

    class Forgotten(Heat):
        terms = (Term("laplacian", ("temperature",), of="temperature"),)

    contract.system = Forgotten(num_spatial_dims=1, num_frames=2)
    with pytest.raises(AssertionError, match="'diffusivity' of 'heat' stands in no term"):
        contract.test_terms_name_what_there_is()


def test_a_system_without_terms_and_tendency_says_so():
    class Silent(Heat):
        terms = ()

    system, grid = Silent(num_spatial_dims=1), Grid((16,), 1.0)
    with pytest.raises(SignatureError, match="no term, and no tendency of its own, how 'temperature' changes"):
        system.tendency(torch.zeros(1, 1, 16), torch.ones(1, 1), grid)
