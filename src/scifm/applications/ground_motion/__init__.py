"""Ground motion: records of earthquakes that never were, made for a magnitude, a distance and what else is asked by.

`synthesis` and `records` make stores of records, drawn or real; `imitating` trains a generator on one, `shaking` asks
it for records, `assessing` compares these with true ones.

The method is that of Ren et al. (arXiv:2407.15089), a dynamic variational autoencoder of log spectrogram frames with
phases by Griffin and Lim. Their published code (8f57a3f) has defects that this one does not:

* Noise of z was ½ exp(logvar) times a normal number, while the divergence takes exp(logvar) for the variance: here it
  is exp(½ logvar), so that both speak of one law.
* In the divergence the prior was rolled out from its own draws, which know nothing of the record: see `network`.
* Spectrograms had a rectangular window, and phases were looked for with Hann's: here one window goes both ways.
* Amplitudes had a floor of 10⁻¹⁰ m, far beneath all noise, so that the loss was of the depth of zeros: here the floor
  is a part of the noise that records have before their motion.
* The largest and the least amplitude, which all were scaled by, were those of all records, those of the test too: here
  the training records alone are asked.
* Records, not events, were held out: here a split parts events.
* A loss of waveforms was taken with the phases of the truth: it said nothing that amplitudes do not. Here is none.
* Levels were made without the scatter that amplitudes of any noise have, 0.13 in log₁₀ too low: see `network`.
* The training as released could not run, since its loss gave four numbers and five were taken.
"""

from scifm.applications.ground_motion.assessing import AssessRecipe, assess
from scifm.applications.ground_motion.imitating import ImitateRecipe, imitate
from scifm.applications.ground_motion.making import RecordsRecipe, make_records
from scifm.applications.ground_motion.shaking import ShakeRecipe, shake
from scifm.applications.ground_motion.synthesis import StochasticMotion

__all__ = [
    "AssessRecipe", "ImitateRecipe", "RecordsRecipe", "ShakeRecipe", "StochasticMotion", "assess", "imitate",
    "make_records", "shake",
]  # fmt: skip
