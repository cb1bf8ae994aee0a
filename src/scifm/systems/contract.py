"""What every system promises, as tests that need nothing but the system.

In a test file of your own package::

    from scifm.systems.contract import SystemContract
    from scifm_plate import ThinPlate

    class TestThinPlate(SystemContract):
        system = ThinPlate()

and pytest runs all of them. Nothing here knows how a system samples or solves: only what `scifm.System` says is used.
Each promise is a method whose first line says what is promised; it raises AssertionError with a sentence that says what
was found. A promise that cannot be tried on this machine raises ``unittest.SkipTest``, which pytest shows as skipped.
"""

from __future__ import annotations

import inspect
import json
import sys
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, is_dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import find_system, system_from_dict
from scifm.systems.knobs import Knob
from scifm.systems.made_once import once
from scifm.systems.system import SamplingRecord, System
from scifm.systems.terms_contract import TermsContract

__all__ = ["SystemContract"]

TEMPLATE = (
    "Equation", "Sign convention", "Domain and boundary", "Fields", "Coefficients", "Knobs", "Dimensionless groups",
    "Exact solution", "Solver and order", "Good values", "Where it breaks", "References",
)  # fmt: skip
"""The headings of a system's module, in this order."""

_POINTS = {1: ((66,), (64,), (47,)), 2: ((40, 66), (64, 64), (33, 47)), 3: ((12, 20, 18), (16, 16, 16), (15, 11, 17))}
_EXTENTS = (1.3, 0.7, 1.9)
NUM_TRIED = 6
PARTS = ("inputs", "coefficients", "targets")


class SystemContract(TermsContract):
    """All promises of a system; a subclass says which, as ``system = Mine()``.

    Attributes:
        system: what is tried, with a range (low < high) for every knob.
        grids: where it is tried; by default three periodic boxes of its dimension: unequal sides, equal sides, and odd
            numbers of points. The first should have unequal sides.
        tolerance: largest residual of its own solution over that of no solution, in float64; no solution is u = 0 or,
            of what evolves, that nothing moves. A solver that is exact on the grid keeps to the default; another states
            its own, 1e-3 at most.
        scaling: the factor by which declared homogeneities are tried.
        points: points an axis of the default boxes, by dimension.
        num_tried: problems drawn for most of the promises, 2 or more.
    """

    system: System
    grids: ClassVar[tuple[Grid, ...]] = ()
    tolerance: ClassVar[float] = 1e-10
    scaling: ClassVar[float] = 3.7

    points: ClassVar[Mapping[int, tuple[tuple[int, ...], ...]]] = _POINTS
    num_tried: ClassVar[int] = NUM_TRIED

    def boxes(self) -> tuple[Grid, ...]:
        """Return the grids that are tried."""
        if self.grids:
            return self.grids
        dims = self.system.signature.num_spatial_dims
        sides = (_EXTENTS[-dims:], (1.0,) * dims, (1.0,) * dims)
        return tuple(Grid(n, side, (True,) * dims) for n, side in zip(self.points[dims], sides, strict=True))

    def sample(
        self,
        num: int | None = None,
        *,
        of: System | None = None,
        grid: Grid | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        record: SamplingRecord | None = None,
    ) -> Batch:
        """Return problems to try: `num_tried` of them on the first grid if nothing else is given."""
        drawn = generator_for(seed, "contract")
        num, grid = num or self.num_tried, grid or self.boxes()[0]
        return (of or self.system).sample(num, grid, drawn, dtype=dtype, record=record)

    def tried(self, grid: Grid | None = None) -> Batch:
        """Return what `sample` returns, drawn and solved once for all promises that only look at it."""
        grid = grid or self.boxes()[0]
        batch = once(self, "sample", lambda: self.sample(grid=grid), grid)
        own: dict[str, Any] = {name: part_of(batch, name).clone() for name in PARTS}  # nobody spoils it for others
        return replace(batch, **own)

    def quick(self, system: System) -> System:
        """Return a system with the same problems whose solutions cost less, where only coefficients are looked at."""
        return system

    def missed(self, batch: Batch, nothing: Tensor | None = None) -> Tensor:
        """Return each sample's residual over that of no solution, ``(batch,)``: 0 for solutions, near 1 for none.

        Args:
            batch: problems and what is said to solve them.
            nothing: what `missed_by_nothing` returned for the same problems, to ask for it once.
        """
        residual = self.system.residual(batch)
        targets = batch.require_targets()
        require(residual.shape == targets.shape, f"a residual is {tuple(targets.shape)}; got {tuple(residual.shape)}")
        return size_of(residual) / (self.missed_by_nothing(batch) if nothing is None else nothing)

    def missed_by_nothing(self, batch: Batch) -> Tensor:
        """Return the size of each sample's residual with no solution in it, ``(batch,)``."""
        nothing = size_of(self.system.residual(batch.with_targets(no_solution(batch))))
        require((nothing > 0).all(), "the residual of no solution is zero, so nothing tells a solution from none")
        return nothing

    def test_inputs_drawn_alone_are_those_of_problems(self) -> None:
        """`sample_inputs` draws the problems of `sample` without targets; where that rejects some, others like them."""
        record, drawn = SamplingRecord(), generator_for(0, "contract")
        whole = self.sample(record=record)
        alone = self.system.sample_inputs(self.num_tried, self.boxes()[0], drawn, dtype=torch.float64)
        pairs = [(part_of(alone, name), part_of(whole, name)) for name in ("inputs", "coefficients")]
        same = all(a.shape == b.shape and (record.rejected > 0 or torch.equal(a, b)) for a, b in pairs)
        require(alone.targets is None and same, "inputs drawn alone have targets, or are not those of samples")

    def test_it_is_a_frozen_dataclass_that_can_be_compared(self) -> None:
        """A system never changes: it is a frozen dataclass, equal to its copy, and can be a key."""
        system = self.system
        require(
            is_dataclass(system), f"{type(system).__name__} is no dataclass; write @dataclass(frozen=True) above it"
        )
        name = next(iter(system.knobs), "name")
        try:
            setattr(system, name, getattr(system, name))
            raise AssertionError(f"'{name}' can be set on a finished system; write @dataclass(frozen=True)")
        except FrozenInstanceError:
            pass
        require(system.where() == system, "a copy of the system is not equal to it")
        try:
            require(hash(system.where()) == hash(system), "equal systems have different hashes")
        except TypeError as error:
            raise AssertionError(f"it cannot be hashed ({error}); give options tuples, not lists") from error

    def test_it_is_found_by_its_name(self) -> None:
        """Recipes and the command line find the system by its name."""
        try:
            named: type[System] | str = find_system(self.system.name)
        except ConfigError as error:
            named = str(error)
        require(
            named is type(self.system),
            f"'{self.system.name}' is not found as {type(self.system).__name__}: {named}; declare it in pyproject.toml "
            'under [project.entry-points."scifm.systems"] and install the package: pip install -e .',
        )

    def test_samples_have_the_promised_form(self) -> None:
        """Samples are finite, in the precision asked for, on the grid asked for, named, and every draw is counted."""
        record = SamplingRecord()
        batch = self.sample(dtype=torch.float32, record=record)
        require(batch.signature == self.system.signature, f"samples have the signature {batch.signature}")
        require(batch.grid == self.boxes()[0], f"samples live on {batch.grid}, not on the grid asked for")
        require(batch.systems == (self.system.name,) * self.num_tried, f"samples say they come from {batch.systems}")
        for name in PARTS:
            part = part_of(batch, name)
            require(part.dtype == torch.float32, f"{name} were asked for in float32; got {part.dtype}")
            require(part.isfinite().all(), f"{name} hold NaN or infinity")
            require(not part.requires_grad, f"{name} carry a gradient")
        counted = record.drawn - record.rejected
        require(
            counted == self.num_tried, f"the record counts {counted} samples of {self.num_tried}; add to record.drawn"
        )

    def test_unknown_knobs_are_refused_with_a_suggestion(self) -> None:
        """A knob that does not exist is refused, and the nearest one named."""
        name = next(iter(self.system.knobs))
        try:
            self.system.where(**{name + "s": [1, 2]})
        except ConfigError as error:
            require(f"Did you mean '{name}'" in str(error), f"the message does not suggest '{name}': {error}")
            return
        raise AssertionError(f"the unknown knob '{name}s' is taken")

    def test_the_dictionary_form_is_plain_and_complete(self) -> None:
        """`to_dict` survives JSON, and `system_from_dict` makes the same system from it."""
        entries = self.system.to_dict()
        require(set(entries) == {"name", "knobs", "options"}, f"the dictionary has the keys {sorted(entries)}")
        again = system_from_dict(json.loads(json.dumps(entries)))
        require(again == self.system, f"written and read again it is {again}")
        require(hash(system_from_dict(entries)) == hash(self.system), "written and read again its hash differs")

    def test_the_file_follows_the_physics_template(self) -> None:
        """The docstring of its module has every heading of `TEMPLATE`, in order, and tells every name."""
        text = inspect.getdoc(sys.modules[type(self.system).__module__]) or ""
        lines = [line for line in text.splitlines() if line and not line[0].isspace()]
        positions = []
        for heading in TEMPLATE:
            place = next((i for i, line in enumerate(lines) if line.startswith(heading)), None)
            require(place is not None, f"the module's docstring has no heading '{heading}'")
            positions.append(place or 0)
        require(positions == sorted(positions), f"the headings stand in another order than {', '.join(TEMPLATE)}")
        require(bool(text.partition("References")[2].strip(" :\n")), "no reference is given")
        require(bool(self.system.equation) and "\n" not in self.system.equation, "the equation is not on one line")
        signature = self.system.signature
        for name in (*signature.inputs, *signature.outputs, *signature.coefficients, *self.system.knobs):
            require(name in text, f"the module's docstring does not describe '{name}'")

    def test_same_seed_same_bytes_and_other_seed_other_samples(self) -> None:
        """One seed gives the same bytes each time; another seed, and each sample, is another problem."""
        first, again, other = (self.sample(seed=seed, dtype=torch.float32) for seed in (0, 0, 1))
        for name in PARTS:
            require(_bytes(part_of(first, name)) == _bytes(part_of(again, name)), f"one seed gives two sets of {name}")
        rows = [torch.cat([batch.inputs.flatten(1), batch.coefficients], 1) for batch in (first, other)]
        problems = [{_bytes(row) for row in part} for part in rows]
        require(not problems[0] & problems[1], "two seeds give some of the same problems")
        require(all(len(seen) == self.num_tried for seen in problems), "some samples of one batch are the same problem")

    def test_one_seed_is_one_set_of_problems_at_every_precision_and_resolution(self) -> None:
        """One seed draws the same problems in float32 and float64, and on a grid twice as fine."""
        coarse = self.tried()
        grid = coarse.grid
        others = {
            "in float32": (self.sample(dtype=torch.float32).to(dtype=torch.float64), 1, 1e-3),
            "on a grid twice as fine": (self.sample(grid=twice_as_fine(grid)), 2, 0.1),
        }
        for how, (other, stride, most) in others.items():
            for name in PARTS:
                mine, theirs = part_of(coarse, name), part_of(other, name)
                if name != "coefficients":
                    theirs = theirs[(slice(None),) * 3 + (slice(None, None, stride),) * grid.num_spatial_dims]
                off = float((size_of(mine - theirs) / size_of(mine).clamp(min=1e-300)).max())
                require(off < most, f"{how} one seed gives other {name}: they differ by {off:.3g} of their size")

    def test_the_global_generator_is_used_only_without_one(self) -> None:
        """torch's own generator is used when none is given, and left alone when one is."""
        before = torch.get_rng_state()
        self.sample()
        require(torch.equal(before, torch.get_rng_state()), "torch's global generator is used although one was given")
        self.system.sample(1, self.boxes()[0])
        require(not torch.equal(before, torch.get_rng_state()), "without a generator torch's global one must be used")

    # --- the equation -------------------------------------------------------------------------------------------------

    def test_the_residual_vector_of_its_own_solution_vanishes(self) -> None:
        """On every grid the residual of what `sample` and `solve` give is zero as a vector, and only of that."""
        require(self.tolerance <= 1e-3, f"a tolerance of {self.tolerance:g} lets anything pass; 1e-3 is the most")
        for grid in self.boxes():
            batch = self.tried(grid)
            nothing = self.missed_by_nothing(batch)
            for made, solved in (("sample", batch), ("solve", self.system.solve(batch.with_targets(None)))):
                worst = float(self.missed(solved, nothing).max())
                require(
                    worst < self.tolerance,
                    f"{grid}: the residual of what `{made}` gives is {worst:.3g} of no solution's",
                )

    def test_wrong_fields_do_not_pass(self) -> None:
        """−u, 1.01 u, u shifted by one point and u mirrored leave a residual."""
        batch = self.tried()
        right = batch.require_targets()
        least, nothing = max(5e-3, 5 * self.tolerance), self.missed_by_nothing(batch)
        wrongs = {
            "-u": -right,
            "1.01 u": 1.01 * right,
            "a shifted u": right.roll(1, -1),
            "a mirrored u": right.flip(-1),
        }
        for name, wrong in wrongs.items():
            left = float(self.missed(batch.with_targets(wrong), nothing).min())
            require(left > least, f"{name} passes as a solution: its residual is {left:.3g} of no solution's")

    def test_it_solves_the_problem_it_is_given(self) -> None:
        """`solve` uses the inputs and coefficients of the batch, every one of them, and so does `residual`."""
        batch = self.tried()  # what solves it does not solve the others
        others: dict[str, Batch] = {}
        for index, name in enumerate(batch.signature.inputs):
            others[f"input '{name}'"] = _with_another_input(batch, index)
        for index, name in enumerate(batch.signature.coefficients):
            numbers = batch.coefficients.clone()
            numbers[:, index] *= 1.01
            others[f"coefficient '{name}'"] = replace(batch, coefficients=numbers)
        for name, other in others.items():
            nothing = self.missed_by_nothing(other)
            old = float(self.missed(other, nothing).max())
            require(old > 10 * self.tolerance, f"`residual` does not see another {name}")
            new = float(self.missed(self.system.solve(other), nothing).max())
            require(new < self.tolerance, f"`solve` does not see another {name}: it leaves {new:.3g} of no solution's")

    def test_the_forcing_is_the_right_hand_side(self) -> None:
        """The residual is left minus right: what is added to an input called ``forcing`` is taken from the residual."""
        batch = self.tried()
        if "forcing" not in batch.signature.inputs or len(batch.signature.outputs) != 1:
            raise unittest.SkipTest("no input is called forcing, or there are several equations")
        index = batch.signature.inputs.index("forcing")
        other = _with_another_input(batch, index)
        added = (other.inputs - batch.inputs)[:, :, index : index + 1]
        change = self.system.residual(other) - self.system.residual(batch)
        off = float((size_of(change + added) / size_of(added)).max())
        require(
            off < max(1e-8, self.tolerance), f"with d added to the forcing the residual does not lose d: off {off:.3g}"
        )

    def test_the_residual_has_a_gradient(self) -> None:
        """The residual is differentiable with respect to the targets."""
        batch = self.tried()
        guess = (1.1 * batch.require_targets()).requires_grad_()
        loss = self.system.residual(batch.with_targets(guess)).square().sum()
        require(loss.requires_grad, "the residual carries no gradient to the targets")
        (slope,) = torch.autograd.grad(loss, guess)
        require(
            slope.isfinite().all() and (size_of(slope) > 0).all(), "the gradient of the residual is zero or not finite"
        )

    def test_invariants_hold_for_solutions_and_not_for_others(self) -> None:
        """Every balance is zero for solutions, and notices a wrong field or a wrong problem."""
        batch = self.tried()
        balances = self.system.invariants(batch)
        require(
            bool(balances) or self.system.signature.evolves, "it names no balance; the work u·(Lu − f) always is one"
        )
        right = batch.require_targets()
        wrongs = [batch.with_targets(wrong) for wrong in (1.1 * right + 0.1, -right, right.roll(1, 0))]
        wrongs.append(replace(batch, inputs=1.1 * batch.inputs + 0.1))
        others = [self.system.invariants(wrong) for wrong in wrongs]
        for name, value in balances.items():
            require(value.shape == (self.num_tried,), f"'{name}' is one number a sample; got {tuple(value.shape)}")
            require(value.dtype == torch.float64, f"'{name}' is computed in float64; got {value.dtype}")
            worst = float(value.abs().max())
            require(worst < 0.1 * self.tolerance, f"'{name}' is {worst:.3g} for solutions")
            noticed = max(float(other[name].abs().min()) for other in others)
            require(noticed > 1e-3, f"'{name}' is at most {noticed:.3g} for wrong fields and wrong problems alike")

    def test_declared_homogeneities_are_exact(self) -> None:
        """Every scaling that it declares turns solutions into solutions."""
        batch = self.tried()
        for homogeneity in self.system.homogeneities:
            require(isinstance(homogeneity, Homogeneity), f"{homogeneity!r} is no scifm.fields Homogeneity")
            scaled = _scaled(batch, homogeneity, self.scaling)
            worst = float(self.missed(scaled).max())
            require(worst < self.tolerance, f"{homogeneity} leaves a residual of {worst:.3g} of no solution's")
            grown = homogeneity.size(scaled) / homogeneity.size(batch)
            exact = torch.allclose(grown, torch.full_like(grown, self.scaling), rtol=1e-7, atol=0)
            require(exact, f"{homogeneity}: its gauge grows by {grown.tolist()} instead of {self.scaling}")

    def test_asking_changes_nothing(self) -> None:
        """Solving and judging leave the batch that was given as it was."""
        batch = self.tried()
        before = {name: part_of(batch, name).clone() for name in PARTS}
        for question in ("solve", "residual", "invariants", "measured_knobs"):
            getattr(self.system, question)(batch)
            for name in PARTS:
                same = torch.equal(before[name], part_of(batch, name))
                require(same, f"`{question}` changes the batch's {name} in place")

    # --- knobs --------------------------------------------------------------------------------------------------------

    def test_every_knob_has_an_effect_and_can_be_fixed(self) -> None:
        """Fixing a knob, at the lower end of its range or inside, keeps all else and gives other problems."""
        grid = self.boxes()[-1]
        base = self.sample(of=self.quick(self.system), grid=grid)
        require(bool(self.system.knobs), "it has no knobs, so its physics cannot be shifted")
        for name, knob in self.system.knobs.items():
            require(knob.low < knob.high, f"give the contract a system with a range of '{name}', not one value")
            problems = [base]
            for value in (knob.low, _inside(knob)):
                fixed = self.system.where(**{name: [value, value]})
                require(type(fixed) is type(self.system), f"fixing '{name}' gives {type(fixed).__name__}")
                became = fixed.knobs[name]
                require(became.low == became.high == value, f"'{name}' fixed at {value:g} becomes {became}")
                require(became.integer == knob.integer, f"'{name}' forgets whether it is whole when it is fixed")
                problems.append(self.sample(of=self.quick(fixed), grid=grid))
            for first, second in ((0, 1), (1, 2)):
                pairs = [(part_of(problems[first], part), part_of(problems[second], part)) for part in PARTS]
                same = all(torch.equal(one, other) for one, other in pairs)
                require(not same, f"'{name}' has no effect: with other values it gives the same problems")

    def test_measured_knobs_lie_where_they_were_drawn(self) -> None:
        """What `measured_knobs` gives lies in the range drawn from, and fills it; it may leave knobs out."""
        for dtype, part in ((d, p) for d in (torch.float32, torch.float64) for p in (0.0, 0.4, 1.0)):
            narrow = self.quick(self.system.where(**dict(_narrowed(self.system, part))))
            measured = narrow.measured_knobs(self.sample(64, of=narrow, grid=self.boxes()[-1], dtype=dtype))
            unknown = sorted(set(measured) - set(self.system.knobs))
            require(not unknown, f"`measured_knobs` gives {unknown}, which are no knobs")
            for name, values in measured.items():
                knob = narrow.knobs[name]
                require(values.shape == (64,), f"'{name}' is one number a sample; got {tuple(values.shape)}")
                low, high, slack = float(values.amin()), float(values.amax()), 1e-3 * max(abs(knob.low), abs(knob.high))
                inside = knob.low - slack <= low <= high <= knob.high + slack
                require(inside, f"'{name}' drawn from {knob.low:g} to {knob.high:g} is measured as {low:g} to {high:g}")
                filled = _width(knob, low, high) > 0.5 * min(_width(knob, knob.low, knob.high), 3.0)
                require(filled, f"'{name}' drawn from {knob.low:g} to {knob.high:g} only is {low:g} to {high:g}")

    def test_a_fixed_knob_is_measured_as_it_was_fixed(self) -> None:
        """A knob that is fixed and can be measured is measured as just that value."""
        for name, knob in self.system.knobs.items():
            value = _inside(knob)
            fixed = self.quick(self.system.where(**{name: value}))
            measured = fixed.measured_knobs(self.sample(of=fixed, grid=self.boxes()[-1])).get(name)
            if measured is not None:
                off = float((measured - value).abs().max()) / (abs(value) or knob.high - knob.low)
                require(off < 1e-4, f"'{name}' fixed at {value:g} is off by {off:.3g}, relatively")

    # --- devices ------------------------------------------------------------------------------------------------------

    def test_batches_are_made_on_the_device(self) -> None:
        """Given a generator on a GPU, everything happens there."""
        if not torch.cuda.is_available():
            raise unittest.SkipTest("no CUDA device")
        generator = generator_for(0, device="cuda")
        batch = self.system.sample(self.num_tried, self.boxes()[0], generator, dtype=torch.float64)
        require(batch.require_targets().is_cuda, "the generator lives on a GPU, the samples do not")
        require((self.missed(batch) < self.tolerance).all(), "what is solved on a GPU leaves a residual")


def require(holds: bool | Tensor, message: str) -> None:
    """Raise AssertionError with the message if a promise does not hold; unlike ``assert`` also under ``python -O``."""
    if not bool(holds):
        raise AssertionError(message)


def part_of(batch: Batch, name: str) -> Tensor:
    """Return inputs, coefficients or targets of a batch by name."""
    return batch.require_targets() if name == "targets" else getattr(batch, name)


def twice_as_fine(grid: Grid) -> Grid:
    """Return the grid with a point more between each two."""
    return grid.resized(tuple(2 * n - (not wraps) for n, wraps in zip(grid.num_points, grid.periodic, strict=True)))


def no_solution(batch: Batch) -> Tensor:
    """Return targets that solve nothing: zero, or the last input frame of what evolves."""
    names, targets = batch.signature, batch.require_targets()
    still = [batch.field(name)[:, -1:] if name in names.state else 0 * batch.target(name) for name in names.outputs]
    return torch.stack([field.expand(-1, targets.shape[1], *batch.grid.num_points) for field in still], dim=2)


def size_of(fields_: Tensor) -> Tensor:
    """Return the norm of each sample, ``(batch,)``."""
    return fields_.flatten(1).norm(dim=1)


def _bytes(values: Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()


def _with_another_input(batch: Batch, index: int) -> Batch:
    """Return the batch with an input of the next sample; if all share it, twice it; if at rest, the largest one."""
    own, sizes = batch.inputs[:, :, index], batch.inputs.flatten(3).abs().amax((0, 1, 3))
    shared = 2 * own if bool(sizes[index]) else batch.inputs[:, :, int(sizes.argmax())]
    other = own.roll(1, 0) if bool((own != own[:1]).any()) else shared
    return replace(batch, inputs=batch.inputs.index_copy(2, sizes.new_tensor([index]).long(), other.unsqueeze(2)))


def _scaled(batch: Batch, homogeneity: Homogeneity, factor: float) -> Batch:
    def factors(names: tuple[str, ...], num_dims: int) -> Tensor:
        values = [factor ** homogeneity.exponent(name) for name in names]
        return torch.tensor(values, dtype=torch.float64).view(-1, *(1,) * num_dims)

    names, dims = batch.signature, batch.grid.num_spatial_dims
    return replace(
        batch,
        inputs=batch.inputs * factors(names.inputs, dims),
        coefficients=batch.coefficients * factors(names.coefficients, 0),
        targets=batch.require_targets() * factors(names.outputs, dims),
        lead_time=None if batch.lead_time is None else batch.lead_time * factor ** homogeneity.exponent("lead_time"),
    )


def _inside(knob: Knob) -> float:
    return knob.high if knob.integer else knob.low + 0.37 * (knob.high - knob.low)


def _width(knob: Knob, low: float, high: float) -> float:
    return knob.line.place(high) - knob.line.place(low)


def _narrowed(system: System, part: float) -> Iterator[tuple[str, object]]:
    """Yield ranges of 0.4 of the width of each knob, from the lower end (part 0) to the upper end (part 1)."""
    for name, knob in system.knobs.items():
        if knob.integer:
            yield name, knob
        else:
            width = _width(knob, knob.low, knob.high)
            start = knob.line.place(knob.low) + 0.6 * part * width
            yield name, [max(knob.line.at(start), knob.low), min(knob.line.at(start + 0.4 * width), knob.high)]
