"""Small tables of a study, made by hand."""

from __future__ import annotations

from scifm.findings.study import Size, Source, Target
from scifm.studies.table import Row

TARGETS = [
    Target(name="poisson-5-10", system="poisson", knobs={"anisotropy": (5, 10)}, label="Poisson, 5 to 10"),
    Target(name="poisson-10-20", system="poisson", knobs={"anisotropy": (10, 20)}, label="Poisson, 10 to 20"),
    Target(name="helmholtz-1-5", system="helmholtz", knobs={"wavenumber_shift": (1, 5)}, label="Helmholtz"),
]
SOURCES = [
    Source(name="poisson", systems=("poisson",), label="Poisson", num_pretrain_samples=96_000),
    Source(name="mixture", systems=("poisson", "helmholtz"), label="both", num_pretrain_samples=96_000),
    Source(name="others", systems=("helmholtz", "advection"), label="others", num_pretrain_samples=96_000),
]
SIZES = [Size(name="small", num_params=1_000_000), Size(name="large", num_params=10_000_000)]
NAMED = {"targets": TARGETS, "sources": SOURCES, "sizes": SIZES}


def make_row(
    kind, error, num_samples=0, seed=0, *, source="poisson", target="poisson-5-10", size="small", method="all"
):
    downstream = kind in ("few_shot", "from_scratch")
    place = "-".join(map(str, (kind, source, target, size, method, num_samples, seed)))
    return Row(
        kind=kind, source="" if kind == "from_scratch" else source, source_systems="", target=target,
        system=target.split("-")[0], knobs="{}", size=size, num_params=1_000_000, num_pretrain_samples=96_000,
        num_samples=num_samples, seed=seed, method=method if downstream else "", learning_rate=1e-3,
        coefficients="pretrained" if kind == "few_shot" else "", num_trials=1, trial_steps=0,
        num_steps=100, relative_l2=error, relative_l2_median=error, relative_l2_p90=error, flops=1.0, seconds=1.0,
        run=f"runs/{place}",
    )  # fmt: skip


def make_rows(kind, errors, **names):
    """Rows of a curve: for each number of samples one error a seed."""
    return [make_row(kind, e, n, seed, **names) for n, by_seed in errors.items() for seed, e in enumerate(by_seed)]
