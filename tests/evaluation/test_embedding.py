"""Samples as a model sees them: what stands in the table, and how far systems lie from each other."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.embedding import Embedding, EmbedRecipe, embed, known_numbers
from scifm.evaluation.similarity import compare, energy_coefficient, similarity
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.findings.finding import read_findings
from scifm.models.features import features_of
from scifm.models.fno import FNO, FNOConfig
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.navier_stokes import NavierStokes
from scifm.systems.poisson import Poisson


def cloud(count: int, num_features: int = 6, *, at: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, num_features, generator=torch.Generator().manual_seed(seed)) + at


def clouds(*places: float, count: int = 60) -> Embedding:
    rows = [cloud(count, at=at, seed=number) for number, at in enumerate(places)]
    systems = tuple(f"s{number}" for number in range(len(places)) for _ in range(count))
    return Embedding(torch.cat(rows), tuple(f"mean_{i}" for i in range(6)), systems)


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_batch_gives_a_row_each_beside_what_is_known_of_it():
    operator, batch = tiny.operator(), tiny.batch(5)
    made = embed(operator, batch, batch_size=2)
    torch.testing.assert_close(made.features, features_of(operator, batch))
    assert made.systems == ("poisson",) * 5
    assert list(made.numbers) == ["diffusion_xx", "diffusion_yy", "diffusion_xy", "anisotropy", "angle"]
    torch.testing.assert_close(made.numbers["diffusion_xy"], batch.coefficient("diffusion_xy").double())
    torch.testing.assert_close(made.numbers["anisotropy"], Poisson().measured_knobs(batch)["anisotropy"])
    assert made.about["stage"] == 1
    assert "Embedding: 5 samples" in repr(made)
    torch.testing.assert_close(embed(operator, batch, blind=True).features, features_of(operator, batch, blind=True))


def test_a_split_of_a_store_is_read_piece_by_piece_in_order(tmp_path):
    counts = {"train": 1, "valid": 1, "test": 7}
    store = generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "store", chunk_size=4)
    operator, split = tiny.operator(), store.split("test")
    made = embed(operator, split, batch_size=3)
    torch.testing.assert_close(made.features, features_of(operator, split.load()), rtol=1e-5, atol=1e-5)
    assert made.systems == ("poisson",) * 7


def test_what_a_sample_has_not_is_missing_and_never_zero():
    both = Poisson.signature.union(AdvectionDiffusion.signature)
    parts = [Poisson().sample(2, tiny.GRID, generator_for(0, "a")), AdvectionDiffusion().sample(3, tiny.GRID)]
    numbers = known_numbers(Batch.concatenate(part.aligned(both) for part in parts))
    assert numbers["velocity_x"].isnan().tolist() == [True, True, False, False, False]
    assert not numbers["diffusion_xx"].isnan().any()
    assert numbers["advection_diffusion_ratio"].isnan().tolist() == [True, True, False, False, False]
    foreign = replace(parts[0], systems=("nobody knows",) * 2)
    assert list(known_numbers(foreign)) == ["diffusion_xx", "diffusion_yy", "diffusion_xy"]
    assert list(known_numbers(replace(parts[0], systems=()))) == ["diffusion_xx", "diffusion_yy", "diffusion_xy"]


def test_a_knob_that_is_no_coefficient_is_measured():
    batch = NavierStokes(num_frames=2).sample(2, Grid.square(16), generator_for(0, "force"))
    numbers = known_numbers(batch)
    assert "force" not in batch.signature.coefficients
    assert (numbers["force"] > 0).all()


def test_several_sources_stand_under_their_names_each_on_its_own_grid():
    operator = tiny.operator()
    near, far = tiny.batch(3), Poisson(anisotropy=(5, 10)).sample(2, Grid.square(12), generator_for(1, "far"))
    made = embed(operator, {"near": near, "far": far})
    assert made.counts == {"near": 3, "far": 2}
    torch.testing.assert_close(made.of("far"), features_of(operator, far))
    with pytest.raises(ConfigError, match="Did you mean 'near'"):
        made.of("neer")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npz"])
def test_it_is_written_and_read_again(tmp_path, suffix):
    both = Poisson.signature.union(AdvectionDiffusion.signature)
    parts = [Poisson().sample(2, tiny.GRID, generator_for(0, "a")), AdvectionDiffusion().sample(2, tiny.GRID)]
    batch = Batch.concatenate(part.aligned(both) for part in parts)
    made = embed(FNO(both, FNOConfig(**tiny.NETWORK)), batch)
    file = made.write(tmp_path / f"features.{suffix}")
    if suffix == "npz":
        with np.load(file) as arrays:
            np.testing.assert_allclose(arrays["features"], made.features)
            assert arrays["system"].tolist() == list(made.systems)
            assert np.isnan(arrays["velocity_x"]).tolist() == [True, True, False, False]
        return
    if suffix == "parquet":
        table = pq.read_table(file)
        rows, told = table.to_pylist(), json.loads(table.schema.metadata[b"scifm"])
        assert told["features"] == list(made.names)
        assert told["stage"] == 1
        assert rows[0]["velocity_x"] is None
    else:
        rows = list(csv.DictReader(file.open()))
        assert rows[0]["velocity_x"] == ""
    assert [row["system"] for row in rows] == list(made.systems)
    assert [int(row["sample"]) for row in rows] == [0, 1, 2, 3]
    np.testing.assert_allclose([float(row["rms_3"]) for row in rows], made.features[:, 7])
    assert float(rows[3]["velocity_x"]) == pytest.approx(float(made.numbers["velocity_x"][3]))


def test_what_cannot_be_embedded_or_written_is_said(tmp_path):
    made = embed(tiny.operator(), tiny.batch(2))
    with pytest.raises(ConfigError, match=r"\.parquet, \.csv or \.npz; got 'features\.npy'"):
        made.write(tmp_path / "features.npy")
    with pytest.raises(ConfigError, match="at least one sample"):
        embed(tiny.operator(), tiny.batch(2).select([]))
    with pytest.raises(SignatureError, match="evolving"):
        embed(tiny.operator(), NavierStokes(num_frames=2).sample(2, Grid.square(16)))


# --- how alike --------------------------------------------------------------------------------------------------------


def test_the_energy_coefficient_by_hand():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [5.0]])
    # between: (2 + 5 + 1 + 4) / 4 = 3; within: 1 and 3
    assert energy_coefficient(x, y) == pytest.approx((6 - 1 - 3) / 6)
    assert energy_coefficient(y, x) == pytest.approx(1 / 3)
    assert energy_coefficient(x * 7 + 3, y * 7 + 3) == pytest.approx(1 / 3)
    assert energy_coefficient(torch.zeros(3, 2), torch.ones(4, 2)) == 1.0


def test_of_one_distribution_it_is_near_zero_and_it_grows_with_a_shift():
    alike = [energy_coefficient(cloud(80, seed=2 * k), cloud(80, seed=2 * k + 1)) for k in range(20)]
    assert abs(np.mean(alike)) < 0.003  # unbiased
    assert max(map(abs, alike)) < 0.03
    grown = [energy_coefficient(cloud(80), cloud(80, at=at, seed=1)) for at in (0.0, 0.3, 1.0, 3.0, 30.0)]
    assert grown == sorted(grown)
    assert grown[-1] > 0.95


def test_systems_are_told_apart_by_a_matrix_and_a_map():
    found = similarity(clouds(0.0, 0.8, 3.0))
    assert "s0 and s1 are most alike" in found.said
    assert "s0 and s2 least" in found.said
    assert "not told apart" not in found.said
    matrix, points = found.figure.panels
    values = np.array(matrix.cells.values)
    np.testing.assert_allclose(values, values.T)
    assert np.abs(values.diagonal()).max() < 0.04 < values[0, 1] < values[1, 2] < values[0, 2] < 1
    assert found.statistic == pytest.approx(values[0, 1])
    assert [series.label for series in points.series] == ["s0", "s1", "s2"]
    middles = [np.mean(series.x) for series in points.series]
    assert abs(middles[0] - middles[1]) < abs(middles[1] - middles[2])


def test_a_system_beside_itself_is_not_told_apart():
    found = similarity(clouds(0.0, 0.0))
    assert "not told apart" in found.said
    assert abs(found.statistic) < 0.03


def test_units_of_features_do_not_count_nor_what_never_varies():
    made = clouds(0.0, 1.0)
    units = torch.tensor([1.0, 1e3, 1e-3, 7.0, 1.0, 1.0])
    other = replace(made, features=torch.cat([made.features * units, torch.full((120, 1), 5.0)], 1))
    assert similarity(other).statistic == pytest.approx(similarity(made).statistic, abs=1e-5)


def test_frames_of_one_trajectory_never_stand_in_both_halves():
    """Ten frames of one trajectory are all but equal: halves cut between them would be alike, and are not."""
    middles = cloud(6, seed=5).repeat_interleave(10, 0)
    rows = torch.cat([middles + 0.01 * cloud(60, seed=6), cloud(60, seed=7)])
    numbers = {"viscosity": torch.arange(6.0).repeat_interleave(10).repeat(2)}
    made = Embedding(rows, ("a",) * 6, ("s0",) * 60 + ("s1",) * 60, numbers)
    halves = similarity(made).figure.panels[0].cells.values[0][0]
    assert halves > 0.1


def test_too_few_or_broken_samples_are_refused():
    with pytest.raises(DataError, match="Only one system is there, s0"):
        similarity(clouds(0.0))
    with pytest.raises(DataError, match="Of s0 there are 5 samples"):
        similarity(clouds(0.0, 1.0, count=5))
    made = clouds(0.0, 1.0)
    with pytest.raises(DataError, match="NaN or infinite"):
        similarity(replace(made, features=made.features.where(made.features < 2, torch.nan)))


def test_it_is_kept_in_the_folder_of_ones_own_run_and_drawn_where_asked(tmp_path):
    run = tiny.finished_run(tmp_path / "runs")
    found = compare(clouds(0.0, 1.0), run, figure=tmp_path / "map.svg")
    assert read_findings(run.path / "findings.json") == [found]
    assert (tmp_path / "map.svg").read_text().startswith("<svg")
    assert compare(clouds(0.0), run) is None  # nothing to compare, and nobody asked
    with pytest.raises(DataError, match="Only one system"):
        compare(clouds(0.0), run, figure=tmp_path / "one.svg")
    with pytest.raises(ConfigError, match=r"\.svg; got 'map\.png'"):
        compare(clouds(0.0, 1.0), run, figure=tmp_path / "map.png")


# --- which samples ----------------------------------------------------------------------------------------------------


def test_systems_and_stores_stand_beside_what_a_run_was_trained_on(tmp_path):
    run = tiny.finished_run(tmp_path / "runs")
    store = generate(Poisson(), num_samples={"train": 1, "valid": 1, "test": 3}, num_points=12, path=tmp_path / "mine")
    beside = (str(store.path), "poisson")
    found = EmbedRecipe(num_samples=4, beside=beside, system={"name": "poisson"}, num_points=16).sources(run.path)
    assert {name: samples.num_samples for name, samples in found.items()} == {"Poisson": 4, "mine": 3, "poisson": 4}
    assert found["poisson"].grid == Grid.square(16)
    again = EmbedRecipe(num_samples=4, system={"name": "poisson"}, num_points=16, beside=beside[:1] * 2).sources(
        run.path
    )
    assert list(again) == ["poisson", "mine", "mine #2"]


def test_a_system_beside_is_of_as_many_dimensions():
    found = EmbedRecipe(num_samples=2, beside=("heat",)).sources("scifm/burgers-nano")
    assert found["heat"].grid.num_spatial_dims == 1
    with pytest.raises(ConfigError, match="Did you mean 'heat'"):
        EmbedRecipe(num_samples=2, beside=("heet",)).sources("scifm/burgers-nano")
