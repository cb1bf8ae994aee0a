# %% [markdown]
# # Few samples: what did pre-training buy?
#
# One network, pre-trained on Poisson's equation with anisotropies from 1 to 5, is moved to 5–10. On how few samples
# does it do what training from scratch needs many for? Both sides get the same samples, steps and trials.

# %%
import matplotlib.pyplot as plt
import numpy as np

import scifm

COUNTS, SEEDS, NUM_STEPS, NUM_TEST = (4, 16, 64), (0, 1), 150, 128

# %%
parent = "scifm/poisson-nano"
shifted = scifm.Poisson(anisotropy=scifm.Knob(5, 10))
unseen = shifted.sample(NUM_TEST, scifm.Grid.square(64))
zero_shot = scifm.evaluate(parent, unseen).mean()
zero_shot

# %% [markdown]
# Subsets of a seed are nested: its 4 samples lie within its 16. Another seed draws others. The loop below is what
# `scifm study` does with more care: learning rates chosen on held-out samples, intervals, audits and a page.

# %%
errors = {"fine-tuned": np.zeros((len(SEEDS), len(COUNTS))), "from scratch": np.zeros((len(SEEDS), len(COUNTS)))}
ways = {"fine-tuned": (scifm.finetune, 1e-3), "from scratch": (scifm.from_scratch, 1e-2)}
for name, (adapt, rate) in ways.items():
    for row, seed in enumerate(SEEDS):
        for column, count in enumerate(COUNTS):
            settings = {"learning_rates": (rate,), "training": {"num_steps": NUM_STEPS}}
            run = adapt(parent, shifted, num_samples=count, seed=seed, out="runs", **settings)
            errors[name][row, column] = scifm.evaluate(run, unseen).mean()

# %% [markdown]
# ## The scores
#
# The gain is the error from scratch over the error fine-tuned, seed by seed, so that both have seen the same
# samples.
#
# On very few samples fine-tuning can do worse than no training at all. With several learning rates to try, `finetune`
# has that among its choices, and holds samples out to decide; here each way has one.

# %%
gain = errors["from scratch"] / errors["fine-tuned"]
print("samples      fine-tuned   from scratch   gain")
for column, count in enumerate(COUNTS):
    middle = {name: np.median(values[:, column]) for name, values in errors.items()}
    print(
        f"{count:7d}   {middle['fine-tuned']:11.4f}  {middle['from scratch']:13.4f}  {np.median(gain[:, column]):5.1f}"
    )
print(f"without a sample: {zero_shot:.4f}")

# %%
figure, axes = plt.subplots(figsize=(4.8, 3.0), layout="constrained", dpi=90)
for (name, values), mark in zip(errors.items(), "os", strict=True):
    axes.plot(COUNTS, np.median(values, axis=0), f"{mark}-", label=name)
    axes.fill_between(COUNTS, values.min(axis=0), values.max(axis=0), alpha=0.2)
axes.axhline(zero_shot, linestyle="--", color="gray", label="no sample")
axes.set(xscale="log", yscale="log", xlabel="samples of the new task", ylabel="relative L2 error")
axes.set_xticks(COUNTS, [f"{count}" for count in COUNTS])
axes.minorticks_off()
_ = axes.legend(frameon=False)

# %% [markdown]
# ## Did the right thing move?
#
# The model keeps what it was trained on; what is asked now lies outside of it or not, in words.

# %%
print(*scifm.load_operator(parent).outside(unseen), sep="\n")
print("after fine-tuning:", scifm.load_operator(run).outside(unseen) or "inside")

# %% [markdown]
# Three seeds, twelve tasks and 444 runs of this: *Transfer, measured* in the documentation. Your own: `scifm study
# transfer-tiny --out runs/tiny`.
