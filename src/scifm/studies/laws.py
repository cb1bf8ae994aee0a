"""Scaling laws in one variable: how an error falls with samples, parameters or operations.

Three forms, each holding the one before it::

    power law               y = a x^−b
    power law with floor    y = c + a x^−b
    broken power law        y = c + a x^−b (1 + (x/d)^(1/f))^(−g f)

The last is the smoothly broken law with one break of Caballero et al. 2022, arXiv 2210.14891, eq. 1: the exponent is b
long before d and b + g long after; f is the width of the bend in log x. Letters and names: a ``amplitude``, b
``exponent``, c ``floor``, g ``exponent_change``, d ``break_at``, f ``break_width``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import least_squares, nnls

from scifm.errors import ConfigError, DataError, suggest
from scifm.wording import signed

__all__ = ["FORMS", "Law", "LawChoice", "choose_law", "why_not"]

Floats = NDArray[np.float64]

_NAMES = ("amplitude", "exponent", "floor", "exponent_change", "break_at", "break_width")
# Number of free parameters, the leading ones of _NAMES; the others rest where they do nothing.
FORMS = {"power law": 2, "power law with floor": 3, "broken power law": 6}

# A break may steepen or flatten much more than a plain exponent: published ones reach 5.7.
_CHANGE_BOUNDS = (-1.5, 10.0)
_WIDTH_BOUNDS = (0.01, 2.0)
_NUM_REFINED = 6
# Log residuals below this are rounding; without the line, exact fits would be ranked by chance.
_EXACT = 1e-8


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Args:
        form: one of `FORMS`.
        parameters: by name, in the units of x and y; see the module for the letters.
        objective: summed Huber loss of log y at the minimum.
        aicc: Akaike's information criterion with the small-sample correction; None where the points are too few for it.
        at_bound: parameters that stopped at a bound: limits of the search, not measurements.
    """

    form: str
    parameters: dict[str, float]
    objective: float = 0.0
    aicc: float | None = None
    at_bound: tuple[str, ...] = ()

    def __call__(self, x: ArrayLike) -> Floats:
        """Return the law's y at positive x, of the same shape."""
        p = {"floor": 0.0, "exponent_change": 0.0, "break_at": 1.0, "break_width": 1.0, **self.parameters}
        theta = np.array([np.log(p["amplitude"]), *(p[n] for n in _NAMES[1:4]), *(np.log(p[n]) for n in _NAMES[4:])])
        return np.asarray(_power_part(theta, np.log(np.asarray(x, dtype=np.float64)))[0] + p["floor"])

    @property
    def text(self) -> str:
        """The formula with its numbers, to be read by people: ``0.003 + 1.2·x^−0.61``."""
        p = self.parameters
        floor = f"{p['floor']:.3g} + " if p.get("floor") else ""
        text = f"{floor}{p['amplitude']:.3g}·x^{signed(-p['exponent'])}"
        if "break_at" in p:
            power = signed(-p["exponent_change"] * p["break_width"])
            text += f"·(1 + (x/{p['break_at']:.3g})^(1/{p['break_width']:.2g}))^{power}"
        return text


@dataclass(frozen=True)
class LawChoice:
    """Which form the points ask for, told in two ways.

    Args:
        laws: every form that was offered, fitted to all points.
        held_out_errors: by form, abs(log(predicted / observed)) at the largest x when fitted without it; None where
            too few points remain.
        reasons: why the other forms were not offered.
    """

    laws: dict[str, Law]
    held_out_errors: dict[str, float | None]
    reasons: dict[str, str]

    @property
    def law(self) -> Law:
        """The law of lowest AICc; that of fewest parameters on a tie, and where no form has one."""
        return min(self.laws.values(), key=lambda law: np.inf if law.aicc is None else law.aicc)


def why_not(x: ArrayLike, form: str) -> str | None:
    """Return why a form cannot be fitted at these x: fewer distinct ones than parameters + 2. None if it can.

    Raises:
        ConfigError: if the form is unknown.
    """
    if form not in FORMS:
        raise ConfigError(f"Form {suggest(form, FORMS)}")
    num_x, needed = len(np.unique(np.asarray(x))), FORMS[form] + 2
    return None if num_x >= needed else f"a {form} needs {needed} different x, there are {num_x}"


def choose_law(
    x: ArrayLike,
    y: ArrayLike,
    *,
    forms: Sequence[str] = tuple(FORMS),
    delta: float = 0.1,
    exponent_bounds: tuple[float, float] = (0.0, 1.5),
) -> LawChoice:
    """Fit all forms that the points can bear; compare them by AICc and by the error at the held-out largest x.

    Several y at one x (seeds) are several points. The loss is Σ Huber_δ(log y − log ŷ), summed. For fixed exponents and
    break the law is linear in its floor and amplitude, which are ≥ 0: a grid of those, each solved by nonnegative least
    squares of relative residuals (variable projection), gives the starts; bounded Gauss–Newton steps in log space
    refine the best. The break stays between the second smallest and the second largest x, because it cannot be seen
    before it begins; ``exponent_change`` lies in [−1.5, 10], ``break_width`` in [0.01, 2], at least half of what
    neighboring log x are apart (median).

    Args:
        x: samples, parameters or operations, `(points,)`, positive.
        y: errors, `(points,)`, positive.
        forms: those to try, fewest parameters first.
        delta: log residual from which a point counts as an outlier. AICc is only that of a normal error if it is well
            above the scatter of seeds.
        exponent_bounds: of ``exponent``.

    Raises:
        ConfigError: if a form, delta or a bound is not valid.
        DataError: if a number is NaN or not positive, or where not one form can be offered.
    """
    x, y = check_points(x=x, error=y)
    check_settings(delta, exponent_bounds)
    reasons = {form: reason for form in forms if (reason := why_not(x, form)) is not None}
    offered = [form for form in forms if form not in reasons]
    if not offered:
        raise DataError(f"No scaling law can be fitted: {'; '.join(reasons.values())}. Measure more.")
    whole = _Fit(x, y, delta, exponent_bounds)
    inner = x < x.max()
    rest = _Fit(x[inner], y[inner], delta, exponent_bounds)
    last = float(np.log(y[~inner]).mean())
    errors = {
        form: abs(float(np.log(rest.law(form)(x.max()))) - last) if why_not(x[inner], form) is None else None
        for form in offered
    }
    return LawChoice({form: whole.law(form) for form in offered}, errors, reasons)


def check_points(**columns: ArrayLike) -> tuple[Floats, ...]:
    """Return equally long columns of positive finite numbers as float64 arrays `(points,)`.

    Raises:
        DataError: naming the column that is not so.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"Points of a law are lists of equal length, one number each; got shapes {given}.")
    for name, array in arrays.items():
        bad = array[~(np.isfinite(array) & (array > 0))]
        if bad.size:
            raise DataError(
                f"{name} holds {bad[0]:g}; a law is fitted to logarithms, so every number must be positive and finite. "
                "Leave out what could not be measured."
            )
    return tuple(arrays.values())


def check_settings(delta: float, *bounds: tuple[float, float]) -> None:
    """Raise ConfigError unless delta is positive and every pair of bounds is ordered and not negative."""
    if not (np.isfinite(delta) and delta > 0):
        raise ConfigError(f"delta = {delta} is not positive; it is the log residual from which a point is an outlier.")
    for low, high in bounds:
        if not 0 <= low < high < np.inf:
            raise ConfigError(f"Bounds of an exponent ({low}, {high}) are not of the kind 0 ≤ low < high < ∞.")


def huber(residuals: Floats, delta: float) -> float:
    """Return the sum of r²/2 where abs(r) ≤ δ and δ (abs(r) − δ/2) beyond."""
    return float(special.huber(delta, residuals).sum())


def descend(
    residuals: Callable[[Floats], Floats],
    jacobian: Callable[[Floats], Floats],
    start: Floats,
    bounds: tuple[Floats, Floats],
    delta: float,
) -> Floats:
    """Return where bounded Gauss–Newton steps on the summed Huber loss of some residuals end."""
    low, high = bounds
    edge = 1e-9 * (high - low)
    end = least_squares(
        residuals,
        np.clip(start, low + edge, high - edge),
        jac=jacobian,
        bounds=bounds,
        loss="huber",  # scipy's is summed, with the delta of f_scale
        f_scale=delta,
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=200,
    )
    return np.asarray(end.x)


def _power_part(theta: Floats, u: Floats) -> tuple[Floats, Floats, Floats]:
    """Return a x^−b (1 + (x/d)^(1/f))^(−g f), its bend log(1 + (x/d)^(1/f)) and (log x − log d)/f, at u = log x."""
    log_amplitude, exponent, _, change, log_break, log_width = theta
    width = np.exp(log_width)
    along = (u - log_break) / width
    bend = np.logaddexp(0, along)
    return np.exp(log_amplitude - exponent * u - change * width * bend), bend, along


class _Fit:
    """Fits forms to the same points, in centered units: u = log x − its mean, y over its geometric mean.

    θ = (log a, b, c, g, log d, log f), of which a form frees the leading ones.
    """

    def __init__(self, x: Floats, y: Floats, delta: float, exponent_bounds: tuple[float, float]) -> None:
        log_x, log_y = np.log(x), np.log(y)
        self.center, self.scale, self.delta = float(log_x.mean()), float(log_y.mean()), delta
        self.u, self.v = log_x - self.center, log_y - self.scale
        self.y = np.exp(self.v)
        rows = [(-50.0, 50.0), exponent_bounds, (0.0, self.y.max()), _CHANGE_BOUNDS]
        places = np.unique(self.u)
        # narrower than half of what points are apart, a break is a jump that may be put between any two of them
        narrowest = min(max(_WIDTH_BOUNDS[0], 0.5 * float(np.median(np.diff(places)))), 0.5 * _WIDTH_BOUNDS[1])
        rows += [(places[1], places[-2]), (np.log(narrowest), np.log(_WIDTH_BOUNDS[1]))]
        self.low, self.high = np.array(rows, dtype=np.float64).T
        self.known: dict[str, Floats] = {}  # the best θ by form

    def law(self, form: str) -> Law:
        """Fit one form and put it into the units of the points."""
        num_free, theta = FORMS[form], self.best(form)
        at_end = np.minimum(theta - self.low, self.high - theta) <= 1e-6 * (self.high - self.low)
        at_end[2] &= theta[2] != 0  # no floor is an answer
        values = theta.copy()
        values[0] += self.scale + values[1] * self.center
        # The bend was measured from the center too, so only its place moves.
        values[2] *= np.exp(self.scale)
        values[4] += self.center
        values[[0, 4, 5]] = np.exp(values[[0, 4, 5]])
        parameters = dict(zip(_NAMES[:num_free], values.tolist(), strict=False))
        objective = self.objective(theta)
        at_bound = tuple(name for name, stopped in zip(parameters, at_end, strict=False) if stopped)
        return Law(form, parameters, objective, self.aicc(objective, num_free), at_bound)

    def aicc(self, objective: float, num_free: int) -> float | None:
        """AICc of normal log residuals, the variance counted as a parameter; twice the objective is the sum of squares.

        Using the objective itself, and not the plain sum of squares, keeps a larger form from ever fitting worse.
        """
        count, num_estimated = len(self.u), num_free + 1
        left = count - num_estimated - 1
        if left <= 0:
            return None
        variance = max(2 * objective / count, _EXACT**2)
        return float(count * np.log(variance) + 2 * num_estimated + 2 * num_estimated * (num_estimated + 1) / left)

    def objective(self, theta: Floats) -> float:
        return huber(self.residuals(theta), self.delta)

    def residuals(self, theta: Floats) -> Floats:
        return np.asarray(np.log(_power_part(theta, self.u)[0] + theta[2]) - self.v)

    def jacobian(self, theta: Floats) -> Floats:
        """Derivatives of the residuals, `(points, 6)`."""
        part, bend, along = _power_part(theta, self.u)
        change, width, slope = theta[3], np.exp(theta[5]), special.expit(along)
        total = part + theta[2]
        columns = [
            part,
            -part * self.u,
            np.ones_like(part),
            -part * width * bend,
            part * change * slope,
            -part * change * width * (bend - slope * along),
        ]
        return np.asarray(np.stack(columns, axis=1) / total[:, None])

    def best(self, form: str) -> Floats:
        """Return θ of lowest objective; a smaller form's answer is a start of the larger one."""
        if form not in self.known:
            smaller = [name for name in FORMS if FORMS[name] < FORMS[form]]
            starts = [self.best(smaller[-1])] if smaller else []
            starts += self.starts(FORMS[form])
            ends = [self.refine(start, FORMS[form]) for start in starts] + starts[:1]
            self.known[form] = min(ends, key=self.objective)
        return self.known[form]

    def refine(self, start: Floats, num_free: int) -> Floats:
        def whole(free: Floats) -> Floats:
            return np.concatenate([free, start[num_free:]])

        end = descend(
            lambda free: self.residuals(whole(free)),
            lambda free: self.jacobian(whole(free))[:, :num_free],
            start[:num_free],
            (self.low[:num_free], self.high[:num_free]),
            self.delta,
        )
        theta = whole(end)
        # The search stays inside its bounds, so a floor of zero is only ever approached.
        without = np.where(np.arange(6) == 2, 0.0, theta)
        return without if self.objective(without) <= self.objective(theta) else theta

    def starts(self, num_free: int) -> list[Floats]:
        """Return the best of a grid over all that is not linear, each with its floor and amplitude solved for."""
        exponents = np.linspace(self.low[1], self.high[1], 61 if num_free < 6 else 7)
        grids: list[Sequence[float] | Floats] = [exponents]
        if num_free == 6:
            places = np.linspace(self.low[4], self.high[4], 8)
            grids += [(-0.5, 0.5, 1.0, 2.0, 4.0, 7.0), places, np.log([0.03, 0.1, 0.3, 1.0])]
        ranked = []
        for exponent, *rest in itertools.product(*grids):
            theta = np.zeros(6)
            theta[1] = exponent
            theta[3 : 3 + len(rest)] = rest
            columns = [_power_part(theta, self.u)[0] / self.y]
            columns += [1 / self.y] if num_free > 2 else []
            coefficients, distance = nnls(np.stack(columns, axis=1), np.ones_like(self.y))
            if coefficients[0] > 0:
                theta[0] = np.log(coefficients[0])
                theta[2] = coefficients[1] if num_free > 2 else 0.0
                ranked.append((float(distance), theta))
        ranked.sort(key=lambda pair: pair[0])
        return [theta for _, theta in ranked[: _NUM_REFINED if num_free == 6 else 3]]
