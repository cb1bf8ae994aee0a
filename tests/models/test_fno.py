from __future__ import annotations

import math
import tomllib

import pytest
import torch
from torch import nn
from torch.nn import functional

import tiny
from scifm.config import build_config, dump_toml
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.models.foreign_files import import_reference_weights

SIGNATURE = Signature(("forcing",), ("kxx", "kyy", "kxy"), ("solution",))
CONFIGS = {
    "default": FNOConfig(),
    "reference": FNOConfig.reference(),
    "small_reference": FNOConfig.reference(width=6, modes=4),
    "small": FNOConfig(width=6, modes=4, latent_points=9, projection_width=8),
}


def fno(config: FNOConfig, signature: Signature = SIGNATURE, *, seed: int = 0) -> FNO:
    torch.manual_seed(seed)
    return FNO(signature, config).double()


def waves(num_points: int, *, top: int = 3) -> torch.Tensor:
    """Return ``(1, 1, 1, n, n)``: one fixed band-limited field, read at n² points."""
    generator = torch.Generator().manual_seed(5)
    y, x = torch.meshgrid(*(2 * math.pi * torch.arange(num_points).double() / num_points,) * 2, indexing="ij")
    field = torch.zeros_like(x)
    for _ in range(8):
        k, l = torch.randint(-top, top + 1, (2,), generator=generator).tolist()  # noqa: E741
        amplitude, phase = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
        field += amplitude * torch.cos(k * y + l * x + 6 * phase)
    return field[None, None, None]


# --- what must hold for any architecture ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "reference"])
def test_one_pixel_changes_the_answer_everywhere(name):
    """An operator whose spectral part is inert sees one pixel at one pixel."""
    operator = fno(CONFIGS[name])
    inputs = torch.randn(1, 1, 1, 64, 64, dtype=torch.float64)
    poked = inputs.clone()
    poked[..., 17, 40] += 1
    coefficients = torch.randn(1, 3, dtype=torch.float64)
    with torch.no_grad():
        change = (
            operator.network(tiny.encoded(poked, coefficients)) - operator.network(tiny.encoded(inputs, coefficients))
        ).abs()
    assert float(change.min()) > 0, "somewhere nothing changed"
    assert float((change > 1e-6 * change.max()).double().mean()) > 0.9


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_go_round_through_toml(name):
    assert build_config(FNOConfig, tomllib.loads(dump_toml(CONFIGS[name].to_dict()))) == CONFIGS[name]


@pytest.mark.parametrize("name", ["default", "small", "small_reference"])
def test_every_coefficient_changes_the_answer(name):
    operator = fno(CONFIGS[name])
    inputs, coefficients = waves(24), torch.randn(1, 3, dtype=torch.float64)
    base = operator.network(tiny.encoded(inputs, coefficients))
    for index in range(3):
        other = coefficients.clone()
        other[0, index] += 0.5
        assert float((operator.network(tiny.encoded(inputs, other)) - base).detach().abs().max()) > 1e-6


@pytest.mark.parametrize("name", ["small", "small_reference"])
@pytest.mark.parametrize("space", [(16,), (16, 10), (9, 12), (8, 9, 10)])
def test_shapes_on_unequal_sides_and_in_all_dimensions(name, space):
    signature = Signature(("f", "g"), ("a",), ("u", "v", "w"), num_spatial_dims=len(space))
    operator = fno(CONFIGS[name], signature)
    answer = operator.network(tiny.encoded(torch.randn(5, 1, 2, *space).double(), torch.randn(5, 1).double()))
    assert answer.shape == (5, 1, 3, *space)
    assert answer.dtype == torch.float64


@pytest.mark.parametrize("name", ["small", "small_reference"])
def test_no_coefficients_and_one_sample_are_no_special_case(name):
    operator = fno(CONFIGS[name], Signature(("f",), (), ("u",)))
    inputs = torch.randn(3, 1, 1, 10, 12).double()
    together = operator.network(tiny.encoded(inputs, inputs.new_zeros(3, 0)))
    alone = torch.cat([operator.network(tiny.encoded(inputs[i : i + 1], inputs.new_zeros(1, 0))) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_coefficients_are_constant_channels():
    """The reference feeds a coefficient as a constant image; a bias a sample is the same thing, cheaper."""
    with_coefficients = fno(CONFIGS["small_reference"])
    as_fields = fno(CONFIGS["small_reference"], Signature(("forcing", "kxx", "kyy", "kxy"), (), ("solution",)))
    as_fields.load_state_dict(with_coefficients.state_dict())
    inputs, coefficients = torch.randn(2, 1, 1, 12, 12).double(), torch.randn(2, 3).double()
    images = torch.cat([inputs, coefficients.view(2, 1, 3, 1, 1).expand(-1, -1, -1, 12, 12)], dim=2)
    torch.testing.assert_close(
        with_coefficients.network(tiny.encoded(inputs, coefficients)),
        as_fields.network(tiny.encoded(images, inputs.new_zeros(2, 0))),
    )


@pytest.mark.parametrize(("name", "shift"), [("small_reference", (3, 5)), ("small", (8, 16))])
def test_a_shifted_problem_has_the_shifted_answer(name, shift):
    """By any number of points on the grid of the data; by points that both grids share where there is a latent one."""
    config = CONFIGS[name].model_copy(update={"latent_points": 0 if name == "small_reference" else 12})
    operator = fno(config)
    inputs = waves(24, top=4)
    coefficients = torch.randn(1, 3, dtype=torch.float64)
    moved = operator.network(tiny.encoded(inputs.roll(shift, dims=(-2, -1)), coefficients))
    torch.testing.assert_close(
        moved, operator.network(tiny.encoded(inputs, coefficients)).roll(shift, dims=(-2, -1)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("name", ["default", "small", "small_reference"])
@pytest.mark.parametrize("engine", ["gemm", "fft"])
def test_every_parameter_has_a_gradient(name, engine):
    operator = fno(CONFIGS[name].model_copy(update={"engine": engine}))
    operator.network(
        tiny.encoded(torch.randn(2, 1, 1, 24, 24).double(), torch.randn(2, 3).double())
    ).square().sum().backward()
    idle = [n for n, p in operator.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 0]
    assert idle == []


def test_engines_give_the_same_network():
    operators = [fno(CONFIGS["default"].model_copy(update={"engine": engine})) for engine in ("gemm", "fft", "auto")]
    inputs, coefficients = waves(32), torch.randn(1, 3, dtype=torch.float64)
    first, *others = (operator.network(tiny.encoded(inputs, coefficients)) for operator in operators)
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-11, atol=1e-12)


def test_another_resolution_has_the_same_answer_through_the_latent_grid():
    operator = fno(FNOConfig())
    coefficients = torch.randn(1, 3, dtype=torch.float64)
    coarse, fine = (operator.network(tiny.encoded(waves(n), coefficients)) for n in (64, 96))
    difference = coarse[..., ::2, ::2] - fine[..., ::3, ::3]  # the points both hold
    assert (difference.norm() / coarse[..., ::2, ::2].norm()).item() < 1e-4


def test_another_resolution_has_nearly_the_same_answer_on_the_grid_of_the_data():
    """Activations make new modes that a coarser grid aliases, so the answers agree only in the limit."""
    operator = fno(FNOConfig(latent_points=0))
    coefficients = torch.randn(1, 3, dtype=torch.float64)
    answers = {
        n: operator.network(tiny.encoded(waves(n), coefficients))[..., :: n // 32, :: n // 32] for n in (32, 64, 128)
    }
    far = ((answers[32] - answers[128]).norm() / answers[128].norm()).item()
    near = ((answers[64] - answers[128]).norm() / answers[128].norm()).item()
    assert near < 1e-3
    assert near < far


def test_more_than_one_frame_is_refused():
    operator = fno(CONFIGS["small"])
    two = Batch(operator.signature, Grid.square(16), torch.zeros(1, 2, 1, 16, 16), torch.zeros(1, 3))
    with pytest.raises(SignatureError, match="kind 'fno' takes 1 input frame; got 2"):
        operator(two.to(dtype=torch.float64))


def test_too_few_points_for_the_modes_are_refused():
    operator = fno(CONFIGS["small_reference"])
    batch = Batch(SIGNATURE, Grid.square(7), torch.zeros(1, 1, 1, 7, 7).double(), torch.zeros(1, 3).double())
    with pytest.raises(SignatureError, match="at least twice as many points"):
        operator(batch)


@pytest.mark.parametrize(
    "entries", [{"latent_points": 23}, {"latent_points": 7, "modes": 4}, {"modes": 0}, {"width": 0}, {"engine": "fast"}]
)
def test_settings_that_do_not_fit_are_refused(entries):
    with pytest.raises(ConfigError, match=next(iter(entries))):
        build_config(FNOConfig, entries)


# --- the first weights ------------------------------------------------------------------------------------------------


def test_first_weights_follow_their_rule():
    default, reference = (
        fno(config).requires_grad_(False) for config in (FNOConfig(), FNOConfig.reference(width=16, modes=8))
    )
    assert float(default.layers[0].spectral_weight.std()) == pytest.approx(0.125 / math.sqrt(32), rel=0.02)
    weight = reference.layers[2].spectral_weight
    assert float(weight.min()) >= 0
    assert float(weight.max()) <= 1 / 16**2
    assert float(weight.mean()) == pytest.approx(0.5 / 16**2, rel=0.02)


# --- the reference network, written anew from its published description -----------------------------------------------


class ReferenceNetwork(nn.Module):
    """Lift; Fourier layers with a pointwise skip, exact GELU after all but the last; fc1, GELU, fc2. Channels first."""

    def __init__(self, channels: int, width: int, modes: int, projection: int) -> None:
        super().__init__()
        draw = lambda *shape: nn.Parameter(torch.randn(*shape, dtype=torch.float64) / math.sqrt(width))  # noqa: E731
        self.modes = modes
        self.tensors = nn.ParameterDict()
        shapes = {"fc0.weight": (width, channels), "fc0.bias": (width,)}
        for i in range(4):
            shapes |= {f"sp_convs.{i}.weights{j}": (width, width, modes, modes, 2) for j in (1, 2)}
            shapes |= {f"ws.{i}.weight": (width, width, 1), f"ws.{i}.bias": (width,)}
        shapes |= {"fc1.weight": (projection, width), "fc1.bias": (projection,)}
        shapes |= {"fc2.weight": (1, projection), "fc2.bias": (1,)}
        self.state = {name: draw(*shape) for name, shape in shapes.items()}

    def spectral(self, x: torch.Tensor, i: int) -> torch.Tensor:
        m, rows = self.modes, x.shape[-2]
        spectrum = torch.fft.rfft2(x, norm="ortho")
        out = torch.zeros(*x.shape[:2], rows, x.shape[-1] // 2 + 1, dtype=torch.complex128)
        low, high = (torch.view_as_complex(self.state[f"sp_convs.{i}.weights{j}"].contiguous()) for j in (1, 2))
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], low)
        out[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -m:, :m], high)
        return torch.fft.irfft2(out, s=x.shape[-2:], norm="ortho")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.state
        x = functional.linear(x.permute(0, 2, 3, 1), s["fc0.weight"], s["fc0.bias"]).permute(0, 3, 1, 2)
        for i in range(4):
            batch, width, *space = x.shape
            skip = functional.conv1d(x.flatten(2), s[f"ws.{i}.weight"], s[f"ws.{i}.bias"]).view(batch, width, *space)
            x = self.spectral(x, i) + skip
            x = functional.gelu(x) if i < 3 else x
        x = functional.gelu(functional.linear(x.permute(0, 2, 3, 1), s["fc1.weight"], s["fc1.bias"]))
        return functional.linear(x, s["fc2.weight"], s["fc2.bias"]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("space", [(16, 16), (12, 15)])
def test_imported_weights_answer_as_the_reference(prefix, space):
    theirs = ReferenceNetwork(channels=4, width=7, modes=5, projection=11)
    ours = import_reference_weights({prefix + n: t.detach() for n, t in theirs.state.items()}, SIGNATURE)
    forcing, coefficients = torch.randn(3, 1, *space).double(), torch.randn(3, 3).double()
    images = coefficients.view(3, 3, 1, 1).expand(-1, -1, *space)
    with torch.no_grad():
        expected = theirs(torch.cat([forcing, images], dim=1))
        got = ours.network(tiny.encoded(forcing[:, None], coefficients))[:, 0]
    assert float((got - expected).norm() / expected.norm()) < 1e-10


@pytest.fixture
def reference_state() -> dict[str, torch.Tensor]:
    return {n: t.detach() for n, t in ReferenceNetwork(channels=4, width=3, modes=2, projection=5).state.items()}


@pytest.mark.parametrize("name", ["fc0.weight", "sp_convs.2.weights2", "ws.3.bias", "fc2.weight"])
def test_a_missing_tensor_is_named(reference_state, name):
    del reference_state[name]
    with pytest.raises(SignatureError, match=f"lacks '{name}'"):
        import_reference_weights(reference_state, SIGNATURE)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sp_convs.1.weights1", (3, 3, 2, 3, 2)),
        ("sp_convs.0.weights1", (3, 3)),
        ("sp_convs.0.weights2", (3, 3, 2, 2)),
        ("ws.0.weight", (3, 4, 1)),
        ("ws.0.weight", (3,)),
        ("fc0.weight", (3, 4, 1)),
        ("fc1.weight", (5, 4)),
        ("fc2.weight", (2, 5)),
        ("fc2.bias", (1, 1)),
        ("fc1.weight", ()),
    ],
)
def test_a_wrong_shape_is_refused(reference_state, name, shape):
    reference_state[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(SignatureError):
        import_reference_weights(reference_state, SIGNATURE)


def test_another_number_of_channels_is_refused(reference_state):
    with pytest.raises(SignatureError, match="take 4 channels; the signature names 2"):
        import_reference_weights(reference_state, Signature(("forcing",), ("d",), ("solution",)))


def test_the_whole_checkpoint_instead_of_its_weights_is_refused(reference_state):
    with pytest.raises(SignatureError, match="model_state"):
        import_reference_weights({"model_state": reference_state, "iters": 3}, SIGNATURE)
