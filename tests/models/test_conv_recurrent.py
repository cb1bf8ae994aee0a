"""Convolutional recurrent networks: their cells, how they read and answer in blocks, and their published sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.models.conv_recurrent import ConvRecurrent, ConvRecurrentConfig
from scifm.models.parts.convolutional_cells import CELLS
from scifm.models.parts.recurrence import LEM
from scifm.models.registry import load_operator, save_operator

NAMES = Signature(("u", "v", "speed"), (), ("u", "v"), 2, evolves=True)
STATIONS = tuple((place // 24 * 7, place % 24 * 9) for place in range(564))
every_cell = pytest.mark.parametrize("cell", CELLS)


def operator(cell: str = "lem", history: int = 2, **settings) -> ConvRecurrent:
    torch.manual_seed(0)
    settings = {"peepholes": False, **settings}
    return ConvRecurrent(
        NAMES, ConvRecurrentConfig(cell=cell, width=8, halvings=1, history=history, **settings)
    ).double()


def windows(steps: int = 5, history: int = 2, grid: Grid | None = None) -> Batch:
    grid = grid or Grid((6, 8))
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2, history, 3, *grid.num_points, generator=generator, dtype=torch.float64)
    inputs[:, :, 2] = inputs[:, -1:, 2]
    times = 0.1 * torch.arange(1, steps + 1, dtype=torch.float64).expand(2, -1)
    return Batch(NAMES, grid, inputs, inputs.new_zeros(2, 0), lead_time=times)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"halvings": 3, "latent": (43, 28)}, 10_093_242),
        ({"halvings": 3, "latent": (43, 28), "stations": STATIONS}, 16_535_430),
        ({"halvings": 2, "latent": (21, 14)}, 8_148_990),
        ({"halvings": 2, "latent": (21, 14), "cell": "lstm"}, 6_654_846),
        ({"halvings": 2, "latent": (21, 14), "cell": "gru"}, 4_991_358),
    ],
    ids=["dense", "sparse", "coarse", "coarse, LSTM", "coarse, GRU"],
)
def test_it_has_as_many_weights_as_the_published_ones(settings, count):
    names = Signature(("x", "y", "z"), (), ("x", "y", "z"), 2, evolves=True)
    with torch.device("meta"):
        assert ConvRecurrent(names, ConvRecurrentConfig(width=144, **settings)).num_params == count


@pytest.mark.parametrize("steps", [1, 7])
def test_on_one_place_without_peepholes_and_reset_the_cell_is_that_of_sequences(steps):
    torch.manual_seed(0)
    width, num_inputs = 5, 3
    plain = LEM(num_inputs, width, time_step=1.0, plain=True).double()
    cell = CELLS["lem"](num_inputs, width, 1, None, 2).double()
    with torch.no_grad():
        into, bias = (
            plain.inputs.weight.split(width),
            (plain.inputs.bias + torch.cat([plain.slow.bias, plain.fast.bias])),
        )
        bias = bias.split(width)
        order = (0, 1, None, 2, 3)  # gates of both states, the reset, the new fast state, the new slow one
        cell.inputs.weight.zero_()
        for place, own in enumerate(order):
            rows = slice(place * width, (place + 1) * width)
            cell.inputs.weight[rows] = 0.0 if own is None else into[own][:, :, None, None]
            cell.inputs.bias[rows] = 1e3 if own is None else bias[own]  # the reset lets all through
        slow = plain.slow.weight.split(width)
        for place, own in enumerate((0, 1, None, 2)):
            cell.state.weight[place * width : (place + 1) * width] = 0.0 if own is None else slow[own][:, :, None, None]
        cell.fast.weight.copy_(plain.fast.weight[:, :, None, None])
    x = torch.randn(steps, 4, num_inputs).double()
    said, states = cell(x[..., None, None], None, (True, False))
    expected, last = plain(x)
    assert torch.allclose(said[..., 0, 0], expected, atol=1e-12)
    assert all(torch.allclose(a[..., 0, 0], b, atol=1e-12) for a, b in zip(states, last, strict=True))


@every_cell
@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
@pytest.mark.parametrize("space", [(16,), (16, 24), (8, 8, 16)])
def test_where_ends_meet_no_place_is_special(cell, halvings, space):
    names = Signature(("u",), (), ("u",), len(space), evolves=True)
    torch.manual_seed(0)
    config = ConvRecurrentConfig(cell=cell, width=8, halvings=halvings, peepholes=False, history=2)
    network = ConvRecurrent(names, config).double()
    inputs = torch.randn(1, 2, 1, *space, dtype=torch.float64)
    batch = Batch(names, Grid(space), inputs, inputs.new_zeros(1, 0), lead_time=torch.full((1, 1), 0.1).double())
    answer = network(batch).require_targets()
    axes, shift = tuple(range(-len(space), 0)), (8,) * len(space)
    moved = network(replace(batch, inputs=inputs.roll(shift, axes))).require_targets()
    assert answer.shape == (1, 1, 1, *space)
    assert torch.allclose(moved, answer.roll(shift, axes), atol=1e-12)


@every_cell
def test_it_answers_a_block_and_then_reads_its_answers(cell):
    """Each block is that of one who is given the frames before it; within a block it hangs on nothing newer."""
    network, batch = operator(cell), windows()
    frames = torch.cat(list(network.march(batch, 5)), dim=1)
    assert network.block == 2
    still = batch.inputs[:, -1:, 2:].expand(-1, 2, -1, -1, -1)
    read = replace(batch, inputs=torch.cat([frames[:, :2], still], dim=2))
    assert torch.allclose(torch.cat(list(network.march(read, 3)), dim=1), frames[:, 2:], atol=1e-12)
    longer = operator(cell, block=5)
    ahead = torch.cat(list(longer.march(batch, 5)), dim=1)
    assert torch.allclose(ahead[:, :2], frames[:, :2], atol=1e-12)
    assert not torch.allclose(ahead[:, 2:], frames[:, 2:])


def test_observed_frames_are_read_each_for_itself():
    network, batch = operator(), windows()
    truth = torch.randn(2, 5, 2, 6, 8, dtype=torch.float64)
    answers = network(replace(batch, targets=truth, observed=True)).require_targets()
    frames = torch.cat([batch.inputs[:, :, :2], truth], dim=1)
    still = batch.inputs[:, -1:, 2:].expand(-1, 2, -1, -1, -1)
    for step in range(5):
        asked = torch.cat([frames[:, step : step + 2], still], dim=2)
        alone = network(replace(batch, inputs=asked, lead_time=batch.lead_time[:, :1])).require_targets()
        assert torch.allclose(alone, answers[:, step : step + 1], atol=1e-12)


def test_walls_and_points_that_cannot_be_halved():
    network, batch = operator(), windows(grid=Grid((5, 7), 1.0, "open"))
    assert network(batch).require_targets().shape == (2, 5, 2, 5, 7)


def test_peepholes_are_of_one_grid():
    grid = Grid((6, 8))
    config = ConvRecurrentConfig(width=8, halvings=1).on(grid, history=2)
    assert config.latent == (3, 4)
    network = ConvRecurrent(NAMES, config).double()
    assert network(windows()).require_targets().shape == (2, 5, 2, 6, 8)
    with pytest.raises(SignatureError, match=r"each of 3 × 4 points.*a grid of 8 × 8 gives 4 × 4"):
        network(windows(grid=Grid((8, 8))))
    with pytest.raises(SignatureError, match="give latent"):
        ConvRecurrent(NAMES, ConvRecurrentConfig())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "gru", "time_step": 0.5}, "time_step is of cell = 'lem'"),
        ({"kernel_size": 4}, "odd number of taps, such as 5"),
        ({"width": 6, "halvings": 3}, "width must be a multiple of 4"),
        ({"peepholes": False, "latent": (3,)}, "latent is what peepholes and stations are for"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ConvRecurrentConfig(**settings)


@every_cell
def test_saved_and_loaded_it_is_the_same(cell, tmp_path):
    network = operator(cell, answers="changes")
    save_operator(network, tmp_path)
    assert torch.equal(load_operator(tmp_path)(windows()).require_targets(), network(windows()).require_targets())


# --- stations ---------------------------------------------------------------------------------------------------------


def of_stations(stations, grid: Grid | None = None, **settings) -> ConvRecurrent:
    torch.manual_seed(0)
    config = ConvRecurrentConfig(width=8, halvings=1, history=2, stations=stations, **settings)
    return ConvRecurrent(NAMES, config.on(grid or Grid((6, 8)))).double()


@pytest.mark.parametrize("stations", [2, ((0, 0), (1, 5), (5, 7))], ids=["every second", "listed"])
def test_what_lies_between_stations_is_not_read(stations):
    net, batch = of_stations(stations), windows(1)
    places = [(y, x) for y in range(0, 6, 2) for x in range(0, 8, 2)] if stations == 2 else list(stations)
    read = torch.zeros(6, 8, dtype=torch.bool)
    read[tuple(torch.tensor(places).T)] = True
    with torch.no_grad():
        answer = net(batch).targets
        between = torch.where(read, batch.inputs, batch.inputs + 1.0)
        assert torch.equal(net(replace(batch, inputs=between)).targets, answer)
        for place in places:
            moved = batch.inputs.clone()
            moved[(slice(None), 0, 0, *place)] += 1.0
            assert not torch.allclose(net(replace(batch, inputs=moved)).targets, answer)


def test_a_spacing_reads_what_a_list_of_its_places_reads():
    spaced = of_stations(3)
    listed = of_stations(tuple((y, x) for y in range(0, 6, 3) for x in range(0, 8, 3)))
    listed.load_state_dict(spaced.state_dict())
    with torch.no_grad():
        assert torch.equal(spaced(windows(3)).targets, listed(windows(3)).targets)


def test_stations_are_of_one_grid(tmp_path):
    net = of_stations(2)
    assert net.config.num_places == 12
    save_operator(net, tmp_path / "model")
    assert load_operator(tmp_path / "model").config == net.config
    with pytest.raises(SignatureError, match="has 20 of its 12 stations"):
        net(windows(1, grid=Grid((8, 10))))
    with pytest.raises(SignatureError, match=r"has no point \(5, 7\), where a station stands"):
        of_stations(((0, 0), (5, 7)))(windows(1, grid=Grid((6, 6))))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stations": 0}, "every so many-th point"),
        ({"stations": ()}, "one station at least"),
        ({"station_width": 3}, "station_width is of stations"),
        ({"stations": ((0, 0),), "num_places": 4}, "told by a spacing"),
        ({"stations": 2, "halvings": 0}, "give halvings of 1 or more"),
        ({"latent": (3, 4), "peepholes": False}, "peepholes and stations are for"),
    ],
)
def test_settings_of_stations_that_mean_nothing_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ConvRecurrentConfig(**settings)


# --- the size of what was read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ["states", "changes"])
def test_larger_waves_are_answered_as_smaller_ones_all_along_a_march(answers):
    """A sample's size is that of the frames that were read, however the answers grow or fade behind them."""
    larger = Homogeneity((("u", 1.0), ("v", 1.0)), ("u",), "rms")
    ones = {f"{role}_{part}": (0.5 if part == "shift" else 2.0,) * (2 if role == "output" else 3)
            for role in ("input", "output") for part in ("shift", "scale")}  # fmt: skip
    fitted = Normalization((larger,), (1.0,), coefficient_shift=(), coefficient_scale=(), **ones)
    torch.manual_seed(0)
    config = ConvRecurrentConfig(width=8, halvings=1, history=2, peepholes=False, answers=answers)
    net, batch = ConvRecurrent(NAMES, config, normalization=fitted).double(), windows(5)
    factor = torch.tensor([100.0, 100.0, 1.0], dtype=torch.float64).view(1, 1, 3, 1, 1)
    with torch.no_grad():
        small, large = net(batch).targets, net(replace(batch, inputs=batch.inputs * factor)).targets
    torch.testing.assert_close(large, 100 * small, rtol=1e-9, atol=1e-9)
