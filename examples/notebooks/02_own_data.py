# %% [markdown]
# # From a NetCDF file to a forecast
#
# You have a NetCDF file of trajectories and no solver. This is the way from the file to a model that steps it
# forward in time, and to how far ahead it can be trusted. The file is made here by SciPy, as a stand-in for yours:
# a wave that is carried along and spreads, u_t + c u_x = D u_xx, with a speed and a diffusivity that differ between
# trajectories.

# %%
import matplotlib.pyplot as plt
import numpy as np
import xarray

import scifm
from scifm.data.importing import import_data

NUM_TRAJECTORIES, NUM_STEPS = 64, 400

# %%
generator = np.random.default_rng(0)
speed, diffusivity = generator.uniform(0.5, 1.5, NUM_TRAJECTORIES), generator.uniform(2e-3, 1e-2, NUM_TRAJECTORIES)
times, line = np.linspace(0, 1, 21), np.arange(64) / 64
waves = 2 * np.pi * np.arange(33)
first = generator.standard_normal((NUM_TRAJECTORIES, 33)) * np.exp(-((waves / 30) ** 2))
change = np.exp(np.multiply.outer(times, -1j * speed[:, None] * waves - diffusivity[:, None] * waves**2))
states = np.fft.irfft(np.moveaxis(change * first, 0, 1), 64) * 64
xarray.Dataset(
    {
        "u": (("trajectory", "time", "x"), states.astype("float32")),
        "speed": ("trajectory", speed),
        "diffusivity": ("trajectory", diffusivity),
    },
    coords={"time": ("time", times, {"units": "s"}), "x": ("x", line, {"units": "m"})},
).to_netcdf("measured.nc")

# %% [markdown]
# ## A store
#
# `import_data` finds out what is what: `u` evolves, the two numbers are coefficients, the axis wraps around.
# (`scifm inspect measured.nc` says how it knows; where it guesses wrong, a mapping puts it right.) Trajectories are
# dealt out to training, validation and test.

# %%
store = import_data("measured.nc", "stores/measured")
store

# %%
store.signature, store.grid

# %% [markdown]
# ## A model
#
# A recipe is a tree of settings. A sample is a window of a trajectory: one frame and the next.

# %%
recipe = {
    "name": "own",
    "data": {"num_validation_samples": 32, "num_normalization_samples": 128},
    "model": {"network": {"width": 16, "modes": 10, "num_layers": 3, "projection_width": 32, "latent_points": 24}},
    "training": {"num_steps": NUM_STEPS, "batch_size": 16, "learning_rate": 5e-3, "validate_every": 200},
}
run = scifm.pretrain(recipe, store=store, out="runs")
scifm.evaluate(run, store.split("test")).mean()

# %% [markdown]
# ## A forecast
#
# An error of one step is not that of a forecast. From the first frame of the test trajectories the model marches on
# its own answers; `judge` compares every frame with the truth, beside answers that need no network.

# %%
from scifm.evaluation.forecast import judge

whole = scifm.Window(horizon=20)
forecast = judge(scifm.load_operator(run), store.split("test", whole), training=store.split("train", whole))
forecast

# %%
figure, axes = plt.subplots(figsize=(5.8, 2.8), layout="constrained", dpi=90)
axes.plot(forecast.times, forecast.curve(), label="model")
axes.fill_between(forecast.times, forecast.quantiles(0.1), forecast.quantiles(0.9), alpha=0.2)
for name in forecast.baselines:
    axes.plot(forecast.times, forecast.baseline(name), "--", label=name)
axes.set(yscale="log", xlabel="lead time, s", ylabel="relative L2 error")
_ = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# ## One trajectory
#
# `rollout` yields a frame after the other and keeps none, as far as you like.

# %%
start = store.split("test", whole).some(1)
frames = [frame.target("u")[0, 0].numpy() for frame in scifm.rollout(scifm.load_operator(run), start, 20)]
truth = start.target("u")[0].numpy()
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.3), layout="constrained", dpi=72, sharey=True)
reach = abs(truth).max()
for place, (title, field) in zip(
    axes, {"truth": truth, "forecast": np.stack(frames), "error": np.stack(frames) - truth}.items(), strict=True
):
    shown = place.imshow(
        field.T, origin="lower", aspect="auto", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-reach, vmax=reach
    )
    place.set(title=title, xlabel="time, s")
axes[0].set_ylabel("x, m")
_ = figure.colorbar(shown, ax=axes, label="u")

# %% [markdown]
# The same by commands, with a pre-trained parent and fine-tuning on eight trajectories: the tutorial *From a NetCDF
# file to a forecast* of the documentation.
