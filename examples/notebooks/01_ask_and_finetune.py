# %% [markdown]
# # Ten minutes with a trained operator
#
# A small model of Poisson's equation, −∇·(K∇u) = f, comes with SciFM. Here it is asked, asked beyond what it was
# trained on, tuned on a few samples of what is beyond, and compared with training from scratch on the same samples.
# No GPU, no download.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

import scifm

NUM_SAMPLES, NUM_STEPS, NUM_TEST = 16, 150, 64

# %% [markdown]
# ## Ask it
#
# Fields are arrays, x along the last axis; coefficients are numbers. Names are those of the equation. K has the
# entries `diffusion_xx`, `diffusion_yy`, `diffusion_xy`.

# %%
operator = scifm.load_operator("scifm/poisson-nano")
y, x = np.meshgrid(np.arange(64) / 64, np.arange(64) / 64, indexing="ij")
forcing = np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.01) - np.exp(-((x - 0.7) ** 2 + (y - 0.4) ** 2) / 0.01)
answer = operator.predict({"forcing": forcing, "diffusion_xx": 0.03, "diffusion_yy": 0.012, "diffusion_xy": 0.0})
answer["solution"].shape

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 2.4), layout="constrained", dpi=90)
for place, (title, field) in zip(axes, {"forcing": forcing, "solution": answer["solution"]}.items(), strict=True):
    shown = place.imshow(field, origin="lower", extent=(0, 1, 0, 1))
    place.set(title=title, xlabel="x", ylabel="y")
    figure.colorbar(shown, ax=place)

# %% [markdown]
# ## Is it right?
#
# The equation has a solver, so unseen problems can be drawn with their solutions, inside of what the model was
# trained on: an anisotropy (largest over smallest eigenvalue of K) from 1 to 5.

# %%
grid = scifm.Grid.square(64)
inside = scifm.Poisson(anisotropy=scifm.Knob(1, 5))
scifm.evaluate(operator, inside.sample(NUM_TEST, grid)).mean()

# %% [markdown]
# ## Beyond
#
# Now the physics moves: anisotropies from 10 to 20. The model says that it is asked beyond its training, in
# numbers, and is wrong by more.

# %%
shifted = inside.where(anisotropy=[10, 20])
unseen = shifted.sample(NUM_TEST, grid)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    operator.predict(unseen)
print(caught[0].message)

# %%
scores = {"as it comes": scifm.evaluate(operator, unseen)}
scores["as it comes"]

# %% [markdown]
# ## A few samples
#
# Sixteen problems of the new kind, solved. `finetune` holds some of them out, tries learning rates and keeps what
# scores best; `from_scratch` gives the same network and budget a fresh start.

# %%
budget = {"num_samples": NUM_SAMPLES, "training": {"num_steps": NUM_STEPS}}
tuned = scifm.finetune("scifm/poisson-nano", shifted, out="runs", learning_rates=(1e-3,), **budget)
scores["fine-tuned"] = scifm.evaluate(tuned, unseen)
scratch = scifm.from_scratch("scifm/poisson-nano", shifted, out="runs", learning_rates=(1e-2,), **budget)
scores["from scratch"] = scifm.evaluate(scratch, unseen)
for name, score in scores.items():
    print(f"{name:12s} relative L2 error {score.mean():.4f}")

# %% [markdown]
# ## Sample by sample
#
# Every error is kept, `(sample, time, channel)`, not only the mean.

# %%
figure, axes = plt.subplots(figsize=(4.5, 2.6), layout="constrained", dpi=90)
for name, score in scores.items():
    errors = score.values["relative_l2"].flatten().sort().values
    axes.plot(errors, np.arange(1, len(errors) + 1) / len(errors), label=name)
axes.set(xscale="log", xlabel="relative L2 error", ylabel="share of samples below")
_ = axes.legend(frameon=False)

# %% [markdown]
# Next: [a file of your own](02_own_data.ipynb), [few samples, many seeds](03_few_shot.ipynb). The page of a run,
# with its figures: `scifm report runs/finetune-…`.
