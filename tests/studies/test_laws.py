from __future__ import annotations

import numpy as np
import pytest

from scifm.errors import ConfigError, DataError
from scifm.studies.laws import FORMS, Law, choose_law, huber, why_not

# The noiseless simulation of 4-digit addition of Caballero et al. 2022, arXiv 2210.14891: constants and sizes.
ADDITION = {
    "floor": 0.413884531,
    "amplitude": 2.277272290,
    "exponent": 0.055077348,
    "exponent_change": 5.662903816,
    "break_at": 612.583617,
    "break_width": 0.059193036,
}
SIZES = np.array([160, 192, 256, 320, 384, 448, 480, 512, 544, 576, 608, 640, 672, 736, 800, 864, 928.0])
BROKEN = Law("broken power law", ADDITION)
X = 2.0 ** np.arange(3, 13)


def fit_law(x, y, form="power law with floor", **settings):
    return choose_law(x, y, forms=(form,), **settings).law


def noisy(y, std, seed=0):
    return y * np.exp(std * np.random.default_rng(seed).standard_normal(y.shape))


def test_the_broken_law_by_published_values():
    values = BROKEN([100, 405, 612.5836, 1000, 4095])
    np.testing.assert_allclose(values, [2.180981, 2.049455, 1.681533, 0.510910, 0.413915], atol=6e-7)


def test_the_slope_of_a_broken_law_before_and_after():
    law = Law("broken power law", {**ADDITION, "floor": 0.0})
    for x, slope in ((1.0, 0.055077348), (1e6, 0.055077348 + 5.662903816)):
        assert np.log(law(x) / law(2 * x)) / np.log(2) == pytest.approx(slope, rel=1e-6)


def test_published_constants_come_back_from_noiseless_data():
    law = fit_law(SIZES, BROKEN(SIZES), "broken power law")
    assert law.parameters == pytest.approx(ADDITION, rel=1e-6)
    assert law.at_bound == ()


def test_a_break_is_extrapolated_once_it_has_begun():
    y = noisy(BROKEN(SIZES), 5e-4)
    law = fit_law(SIZES[:14], y[:14], "broken power law")
    assert np.abs(np.log(law(SIZES[14:]) / y[14:])).max() < 0.05
    assert law.parameters["break_at"] == pytest.approx(612.58, rel=0.01)


@pytest.mark.parametrize("units", [1.0, 1e9])
@pytest.mark.parametrize(("form", "floor"), [("power law", 0.0), ("power law with floor", 0.02)])
def test_exact_laws_come_back_in_any_units(form, floor, units):
    y = floor + 0.9 * X**-0.6
    law = fit_law(X * units, y, form)
    assert law.parameters["exponent"] == pytest.approx(0.6, abs=1e-8)
    assert law.parameters["amplitude"] == pytest.approx(0.9 * units**0.6, rel=1e-6)
    assert law.parameters.get("floor", 0.0) == pytest.approx(floor, abs=1e-9)
    np.testing.assert_allclose(law(X * units), y, rtol=1e-9)


def test_a_line_through_four_points_by_hand():
    # log2 y = 3, 2, 2, 1 at log2 x = 0, 1, 2, 3: slope -0.6, mean 2, residuals .1, -.3, .3, -.1, sum of squares .2
    law = fit_law([1, 2, 4, 8], [8, 4, 4, 2], "power law", delta=10.0)
    assert law.parameters == pytest.approx({"amplitude": 2**2.9, "exponent": 0.6})
    assert law.objective == pytest.approx(0.1 * np.log(2) ** 2)
    assert law.aicc is None  # four points, three estimated: n − k − 1 = 0


def test_aicc_by_hand():
    law = fit_law([1, 2, 4, 8] * 2, [8, 4, 4, 2] * 2, "power law", delta=10.0)
    assert law.aicc == pytest.approx(8 * np.log(0.4 * np.log(2) ** 2 / 8) + 6 + 24 / 4)


def test_huber_by_hand():
    assert huber(np.array([0.5, -2.0]), 1.0) == pytest.approx(0.125 + 1.5)


def test_an_outlier_does_not_carry_the_law_away():
    y = 0.9 * X**-0.6
    y[4] *= 10
    assert fit_law(X, y, "power law", delta=1e-3).parameters["exponent"] == pytest.approx(0.6, abs=2e-3)
    assert abs(fit_law(X, y, "power law", delta=10.0).parameters["exponent"] - 0.6) > 0.01


def test_a_law_without_floor_gets_none():
    assert fit_law(X, 0.9 * X**-0.6, "power law with floor").parameters["floor"] == 0.0


def test_a_bound_is_told():
    law = fit_law(X, X**-2.0, "power law")
    assert law.at_bound == ("exponent",)
    assert fit_law(X, X**-2.0, "power law", exponent_bounds=(0, 3)).at_bound == ()


def test_a_larger_form_never_fits_worse():
    for seed in range(5):
        laws = choose_law(X, noisy(0.05 + X**-0.5, 0.1, seed)).laws
        objectives = [laws[form].objective for form in FORMS]
        assert objectives == sorted(objectives, reverse=True)


@pytest.mark.parametrize(
    ("y", "form"),
    [(X**-0.5, "power law"), (0.05 + X**-0.5, "power law with floor"), (X**-0.1 / (1 + X / 200), "broken power law")],
)
def test_both_criteria_find_the_form(y, form):
    choice = choose_law(np.repeat(X, 3), noisy(np.repeat(y, 3), 0.003, seed=1))
    assert choice.law.form == form
    assert set(choice.held_out_errors) == set(FORMS)
    assert choice.held_out_errors[form] < 0.03


def test_exact_ties_go_to_fewer_parameters():
    choice = choose_law(X, X**-0.5)
    assert choice.law.form == "power law"
    assert choice.held_out_errors["power law"] == pytest.approx(0, abs=1e-6)


def test_the_held_out_error_by_hand():
    x, y = np.array([1, 2, 4, 8, 16.0]), np.array([1, 1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert choose_law(x, y).held_out_errors["power law"] == pytest.approx(np.log(2))


def test_forms_that_ask_too_much_are_not_offered():
    choice = choose_law([1, 2, 4, 8], [1, 0.6, 0.3, 0.2])
    assert list(choice.laws) == ["power law"]
    assert choice.reasons["power law with floor"] == "a power law with floor needs 5 different x, there are 4"
    assert choice.held_out_errors == {"power law": None}


def test_seeds_are_not_different_x():
    assert why_not([1, 1, 1, 2, 2, 2], "power law") is not None
    with pytest.raises(DataError, match="4 different x, there are 2"):
        fit_law([1, 1, 1, 2, 2, 2], [1, 1, 1, 0.5, 0.5, 0.5], "power law")
    with pytest.raises(DataError, match="No scaling law can be fitted"):
        choose_law([1, 2], [1, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_unusable_numbers_are_named(bad):
    with pytest.raises(DataError, match="error holds"):
        fit_law([1, 2, 4, 8], [1, 0.5, bad, 0.1], "power law")
    with pytest.raises(DataError, match="x holds"):
        choose_law([1, 2, bad, 8], [1, 0.5, 0.2, 0.1])


def test_mismatched_and_misnamed():
    with pytest.raises(DataError, match="equal length"):
        fit_law([1, 2, 4, 8], [1, 0.5, 0.2], "power law")
    with pytest.raises(ConfigError, match="Did you mean 'power law'"):
        fit_law(X, X, "power lav")
    with pytest.raises(ConfigError, match="delta"):
        fit_law(X, X, "power law", delta=0.0)
    with pytest.raises(ConfigError, match="Bounds"):
        fit_law(X, X, "power law", exponent_bounds=(1.0, 0.5))


def test_the_text_is_the_formula():
    assert Law("power law with floor", {"amplitude": 1.2, "exponent": 0.61, "floor": 0.003}).text == (
        "0.003 + 1.2·x^−0.61"
    )
    assert Law("power law", {"amplitude": 1.2, "exponent": 0.61}).text == "1.2·x^−0.61"
    assert BROKEN.text == "0.414 + 2.28·x^−0.0551·(1 + (x/613)^(1/0.059))^−0.335"
