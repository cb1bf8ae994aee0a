"""A network that is itself a function of coordinates, u(x, t): what physics-informed networks are.

It answers one problem, the one it was trained on, at any place and time of it; it is trained by the equation
(`scifm.objectives.collocation`) or by samples of the solution. Raissi, Perdikaris, Karniadakis, J. Comput. Phys. 378
(2019); the published failures are those of Krishnapriyan et al., arXiv:2109.01050.

::

    coordinates → features → linear maps with an activation between → outputs

Of what evolves, t is the time since the input frame. With ``initial = "exact"`` the answer starts at the input frame by
construction, u = u₀ + t/T N(x, t), and with ``periodic`` axes that wrap enter by the cosine and the sine of their
angle, so that it closes there with all its derivatives. At walls that are ``kept`` the answer stays what the input
frame is there: u = u₀ + t/T φ(x) N(x, t) with a product φ of lines that vanish there. Time may be cut into slabs, each
with a network of its own that starts where the one before ends.

Units: outputs and coordinates are physical ones; there is no normalization beside `scaled`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.on_device import in_a_row, numbers_for
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.parts.jets import Jets, Passed, of_network, of_network_at_once
from scifm.models.parts.points import WAY, Asked, PointDerivatives, Points, orders_of
from scifm.wording import plural

__all__ = ["Coordinate", "CoordinateConfig", "Points"]

_LETTERS = "xyz"
_SAME_TIME = 1e-5  # of the duration, by which times in single precision differ


class CoordinateConfig(OperatorConfig):
    """Architecture of a `Coordinate` operator.

    Args:
        width: hidden channels.
        num_layers: hidden layers.
        activation: ``tanh`` or ``sin``.
        periodic: give axes that wrap by the cosine and the sine of their angle, so that answers are periodic by
            construction; else by the coordinate, as published, and what is trained has to close them.
        harmonics: how many waves of such an angle are given, from the longest on; absent: one. A state with short waves
            needs some.
        scaled: bring the other coordinates to −1 … 1; else they are given as they are, as published.
        frequencies: how many waves of the coordinates that do not wrap, time among them, are given beside them
            (Tancik et al., arXiv:2006.10739), each by its cosine and sine.
        bandwidth: standard deviation of their frequencies, in waves on the whole axis.
        initial: of what evolves, whether the input frame is met by construction (``exact``) or has to be trained
            (``soft``), as published.
        kept: by axis of those that do not wrap, at which of its ends, ``low``, ``high`` or ``both``, all outputs stay
            what they are in the input frame, by construction: values given at walls.
        slabs: equal pieces of time, each with a network of its own: to be trained one after the other.
        engine: ``auto``, whose answers have a gradient and no second one, or ``plain``, in torch's own operations.
        duration: how long the problem lasts [T].
        extent: length of the box per axis, as of `Grid`.
        wraps: per axis, whether it wraps around. These three are settled by the first data where they are left out.
    """

    kind: ClassVar[str] = "coordinate"
    sized_by: ClassVar[tuple[str, ...] | None] = ("width", "num_layers", "engine")
    answers_frames: ClassVar[bool] = False

    width: int = Field(50, ge=1, le=4096)
    num_layers: int = Field(4, ge=1, le=64)
    activation: Literal["tanh", "sin"] = "tanh"
    periodic: bool = True
    harmonics: int | None = Field(None, ge=1, le=4096)
    scaled: bool = True
    frequencies: int = Field(0, ge=0, le=4096)
    bandwidth: float = Field(1.0, gt=0, allow_inf_nan=False)
    initial: Literal["exact", "soft"] = "exact"
    kept: dict[Literal["x", "y", "z"], Literal["low", "high", "both"]] | None = Field(None, min_length=1)
    slabs: int = Field(1, ge=1, le=1024)
    engine: Literal["auto", "plain"] = "auto"
    duration: float | None = Field(None, gt=0, allow_inf_nan=False)
    extent: tuple[float, ...] | None = None
    wraps: tuple[bool, ...] | None = None

    @model_validator(mode="after")
    def _every_setting_counts(self) -> CoordinateConfig:
        if not self.frequencies and self.bandwidth != 1.0:
            raise ValueError(f"bandwidth = {self.bandwidth:g} has no effect without frequencies: give some")
        if self.harmonics is not None and not self.periodic:
            raise ValueError(
                f"harmonics = {self.harmonics} are of angles, and periodic = false gives none: leave it out"
            )
        return self

    def on(self, grid: Grid, *, history: int | None = None, lead_time: bool | None = None) -> Self:
        settled = super().on(grid, history=history, lead_time=lead_time)
        said = {"extent": settled.extent or grid.extent, "wraps": settled.wraps or grid.periodic}
        return settled.model_copy(update=said)

    def lasting(self, duration: float | None) -> Self:
        return self if self.duration is not None else self.model_copy(update={"duration": duration})


class Coordinate(Operator):
    """One problem's solution as a network of its coordinates.

    Raises:
        ConfigError: if a setting would have no effect on such a problem.
        SignatureError: if what evolves has an output that is no input, so that nobody says where it starts.
    """

    config: CoordinateConfig
    config_class = CoordinateConfig
    uses_global_generator = False
    uses_all_weights = False
    any_resolution = True
    knows_one_problem = True
    any_lead_time = True
    needs_periodic = False
    waves: Tensor

    def __init__(
        self,
        signature: Signature,
        config: CoordinateConfig | None = None,
        *,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(signature, config or CoordinateConfig(), normalization=normalization)
        odd = [name for name in signature.outputs if name not in signature.inputs]
        if signature.evolves and odd:
            raise SignatureError(
                f"An operator of kind 'coordinate' starts at the input frame: every output of what evolves must be an "
                f"input too; '{odd[0]}' is none."
            )
        c, dims = self.config, signature.num_spatial_dims
        self.wraps = c.wraps or (True,) * dims
        self.extent = c.extent or (1.0,) * dims
        if {len(self.wraps), len(self.extent)} != {dims}:
            raise SignatureError(f"extent and wraps need {plural(dims, 'number')}, one per axis; got {c!r}.")
        straight = self._straight
        self._require_effects(straight)
        self.register_buffer("waves", nn.init.normal_(torch.empty(c.frequencies, len(straight)), std=c.bandwidth))
        angles = 2 * (c.harmonics or 1) * (dims + signature.evolves - len(straight))
        widths = [angles + len(straight) + 2 * c.frequencies, *(c.width,) * c.num_layers, len(signature.outputs)]
        self.networks = nn.ModuleList(
            nn.ModuleList(nn.Linear(before, behind) for before, behind in pairwise(widths)) for _ in range(c.slabs)
        )

    def _require_effects(self, straight: Sequence[int]) -> None:
        """Check that every setting has something to act on: time, or a coordinate that is given as it is."""
        c = self.config
        idle = [
            (not self.signature.evolves and c.initial != "exact", f"initial = '{c.initial}'", "time"),
            (not self.signature.evolves and c.slabs > 1, f"slabs = {c.slabs}", "time"),
            (not self.signature.evolves and c.duration is not None, f"duration = {c.duration}", "time"),
            (not straight and c.frequencies > 0, f"frequencies = {c.frequencies}", "a coordinate that does not wrap"),
            (not straight and not c.scaled, "scaled = False", "a coordinate that does not wrap"),
            (not any(self.wraps) and c.harmonics is not None, f"harmonics = {c.harmonics}", "an axis that wraps"),
            (not self.signature.evolves and c.kept is not None, f"kept = {c.kept}", "time"),
        ]
        for is_idle, setting, needed in idle:
            if is_idle:
                raise ConfigError(
                    f"{setting} would have no effect: it is for {needed}, and there is none. Leave it out."
                )

        walls = [letter for letter, wraps in zip(self.letters, self.wraps[::-1], strict=False) if not wraps]
        for letter in c.kept or ():
            if letter not in walls:
                told = f"those are {', '.join(walls)}" if walls else "there is none"
                raise ConfigError(f"kept names the axis {letter}, and is for axes that do not wrap around: {told}.")
        if c.kept is not None and c.initial != "exact":
            raise ConfigError(
                f"kept = {c.kept} keeps what the input frame is at walls, which an answer with initial = '{c.initial}' "
                "does not start from: set initial = 'exact', or leave kept out and let the objective train what holds "
                "there."
            )

    # --- what it says of itself ---------------------------------------------------------------------------------------

    @property
    def letters(self) -> str:
        """Its coordinates, in the order of the columns of what it is given: x, y, z, t as far as there are such."""
        return _LETTERS[: self.signature.num_spatial_dims] + "t" * self.signature.evolves

    @property
    def duration(self) -> float:
        """How long the problem lasts [T]; 1 where nobody said so."""
        return self.config.duration or 1.0

    @property
    def _lengths(self) -> tuple[float, ...]:
        return (*self.extent[::-1], *(self.duration,) * self.signature.evolves)

    @property
    def _straight(self) -> list[int]:
        """The columns of coordinates that do not enter by their angle."""
        wraps = (*self.wraps[::-1], *(False,) * self.signature.evolves)
        return [place for place, closes in enumerate(wraps) if not (closes and self.config.periodic)]

    def stages(self) -> list[nn.Module]:
        return [layer for network in self.networks for layer in cast(nn.ModuleList, network)]

    def plain_config(self) -> CoordinateConfig:
        return self.config.model_copy(update={"engine": "plain"})

    def lasts(self, slab: int) -> tuple[float, float]:
        """Return when a slab begins and when it ends [T]."""
        each = self.duration / self.config.slabs
        return slab * each, (slab + 1) * each

    def keeps(self, letter: str, end: int) -> bool:
        """Return whether answers stay what they start from at an end of an axis, 0 or −1, by construction."""
        said = (self.config.kept or {}).get(cast(Literal["x", "y", "z"], letter))
        return said in ("both", "high" if end else "low")

    def slab_of(self, times: Tensor) -> Tensor:
        """Return in which slab each time lies; one on a seam ends the slab before it."""
        place = (times / self.duration * self.config.slabs - _SAME_TIME).floor().long()
        return place.clamp(0, self.config.slabs - 1)

    # --- what it does -------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, *, through: int | None = None) -> Batch:
        """Return the problem with its solution at the lead times of the batch, the same for every sample.

        Raises:
            SignatureError: if a time lies behind its duration, samples ask for different times, or what evolves says
                no times.
        """
        batch = self.align(batch)
        times = self._times(batch)
        answers = torch.cat(list(self._frames(batch, times)), dim=1)
        return batch.with_targets(answers.expand(batch.num_samples, *answers.shape[1:]))

    def march(self, batch: Batch, num_steps: int, *, through: int | None = None) -> Iterator[Tensor]:
        """Yield its solution at one lead time after the other; later ones follow as the last, up to its duration.

        Raises:
            SignatureError: as for `forward`.
        """
        steps = batch.lead_steps
        if steps is None:
            yield from (self(batch).require_targets(),) * num_steps
            return
        places = torch.arange(num_steps, device=steps.device).clamp(max=steps.shape[1] - 1)
        for frame in self._frames(batch, self._times(replace(batch, lead_time=steps[:, places].cumsum(1)))):
            yield frame.expand(batch.num_samples, *frame.shape[1:])

    def _times(self, batch: Batch) -> list[float]:
        """Return the times that a batch asks for, of what is steady one that means nothing."""
        if not self.signature.evolves:
            return [0.0]
        if batch.lead_time is None:
            raise SignatureError("An operator of kind 'coordinate' is asked at times: give lead_time, (batch, time).")
        lead = batch.lead_time.double()
        if not torch.allclose(lead, lead[:1].expand_as(lead), rtol=_SAME_TIME):
            raise SignatureError("An operator of kind 'coordinate' answers all samples at the same times; give one.")
        if (last := float(lead.max())) > self.duration * (1 + _SAME_TIME):
            raise SignatureError(
                f"The operator knows one problem up to the time {self.duration:g}; {last:g} is asked for. Ask for "
                "fewer frames, or train it for longer (data.horizon)."
            )
        return cast(list[float], lead[0].tolist())

    def _frames(self, batch: Batch, times: Sequence[float]) -> Iterator[Tensor]:
        """Yield what it answers at each time, ``(1, 1, output, *space)``."""
        places = torch.arange(math.prod(batch.grid.num_points), device=batch.inputs.device)
        slabs = self.slab_of(torch.tensor(times, dtype=torch.float64)).tolist()
        start, current = self._first(batch), 0
        for time, slab in zip(times, slabs, strict=True):
            while current < slab:
                start, current = self._end(batch, current, start), current + 1
            yield self._field(batch, places, time, slab, start)

    def _field(self, batch: Batch, places: Tensor, time: float, slab: int, start: Tensor | None) -> Tensor:
        asked = Points(
            places, torch.full_like(places, time, dtype=batch.inputs.dtype) if self.signature.evolves else None
        )
        answer = self.at(batch, asked, slab=slab, start=start)
        return torch.stack([answer.value(name)[0] for name in self.signature.outputs]).view(
            1, 1, -1, *batch.grid.num_points
        )

    def _first(self, batch: Batch) -> Tensor | None:
        """Return the outputs in the input frame, ``(output, *space)``; None of what is steady."""
        if not self.signature.evolves:
            return None
        return torch.stack([batch.field(name)[0, -1] for name in self.signature.outputs])

    def _end(self, batch: Batch, slab: int, start: Tensor | None) -> Tensor:
        """Return the outputs where a slab ends, which is where the next one starts, ``(output, *space)``."""
        places = torch.arange(math.prod(batch.grid.num_points), device=batch.inputs.device)
        return self._field(batch, places, (slab + 1) / self.config.slabs * self.duration, slab, start)[0, 0]

    def start_of(self, batch: Batch, slab: int) -> Tensor:
        """Return the outputs where a slab starts, ``(output, *space)``, as the networks before it say now.

        Raises:
            SignatureError: if the problem does not evolve.
        """
        start = self._first(batch)
        if start is None:
            raise SignatureError("A problem that does not evolve starts nowhere.")
        for before in range(slab):
            start = self._end(batch, before, start)
        return start

    def at(
        self,
        batch: Batch,
        points: Points,
        *,
        derivatives: Collection[str] = (),
        slab: int = 0,
        start: Tensor | None = None,
        passed: list[Passed] | None = None,
    ) -> PointDerivatives:
        """Return its fields at points, with derivatives: `answer` of what `ask` makes of them, which says the rest."""
        return self.answer(self.ask(batch, points, derivatives=derivatives, slab=slab, start=start), passed)

    def ask(
        self,
        batch: Batch,
        points: Points,
        *,
        derivatives: Collection[str] = (),
        way: Mapping[str, float] | None = None,
        slab: int = 0,
        start: Tensor | None = None,
    ) -> Asked:
        """Return what does not hang on its weights when it is asked at points.

        Args:
            batch: the problem: its first sample says input fields and the box.
            points: where, on the grid of the batch.
            derivatives: those that will be asked for, by the letters of their axes, see `scifm.fields.derivatives`.
            way: speeds along coordinates by their letters, if the derivative Σ speed ∂u/∂letter will be asked for: at
                the cost of one where its parts are as many as letters.
            slab: whose network answers.
            start: the outputs where the slab starts, ``(output, *space)``, see `start_of`; needed of what evolves.

        Raises:
            SignatureError: if a derivative is asked for that is mixed and of an order above two, or a time lies outside
                of the problem.
        """
        orders = orders_of(derivatives, self.letters) | ({} if way is None else {WAY: 1})
        lines = [[float(name in line) for name in self.letters] for line in orders if line != WAY]
        lines += [] if way is None else [[way.get(name, 0.0) for name in self.letters]]
        coordinates = self._coordinates(batch.grid, points, batch.inputs)
        begins = slab / self.config.slabs * self.duration
        exact = self.signature.evolves and self.config.initial == "exact"
        share = None if not exact else (coordinates[:, -1] - begins) * (self.config.slabs / self.duration)
        fields = {name: batch.field(name)[:1, -1] for name in self.signature.inputs}
        if start is not None:
            fields |= {name: start[None, place] for place, name in enumerate(self.signature.outputs)}
        ways = numbers_for([number for line in lines for number in line], coordinates).view(-1, len(self.letters))
        features = self._features(coordinates, orders, ways)
        return Asked(points, batch.grid, slab, features, fields, share, way, self._factor(coordinates, orders, ways))

    def answer(self, asked: Asked, passed: list[Passed] | None = None) -> PointDerivatives:
        """Return its fields at points, with the derivatives that were asked for.

        Args:
            asked: by `ask`.
            passed: where what passed through its maps is put down, if it is wanted.
        """
        network, c = self._network(asked.slab), self.config
        jets = of_network(network, c.activation, asked.features, passed, plain=c.engine == "plain")
        return self._fields(jets, asked)

    def answer_all(self, several: Sequence[Asked]) -> list[PointDerivatives]:
        """Return what `answer` does of each, all of one slab, sooner than one after the other."""
        network, c = self._network(several[0].slab), self.config
        features = [asked.features for asked in several]
        found = of_network_at_once(network, c.activation, features, plain=c.engine == "plain")
        return [self._fields(jets, asked) for jets, asked in zip(found, several, strict=True)]

    def _fields(self, jets: Jets, asked: Asked) -> PointDerivatives:
        jets = jets if asked.factor is None else jets.times(asked.factor)
        return PointDerivatives(self.signature.outputs, self.config.slabs / self.duration, jets, asked)

    def _network(self, slab: int) -> list[nn.Linear]:
        return [cast(nn.Linear, layer) for layer in cast(nn.ModuleList, self.networks[slab])]

    def _coordinates(self, grid: Grid, points: Points, like: Tensor) -> Tensor:
        """Return the coordinates of points, ``(point, coordinate)``, x first and time last."""
        axes = grid.coordinates(dtype=like.dtype, device=like.device)
        index = torch.unravel_index(points.places, grid.num_points)
        columns = [axis[place] for axis, place in zip(axes, index, strict=True)]
        if points.turns is not None:
            turns = points.turns.to(like).T  # whole numbers times a length would be of single precision
            columns = [c + turn * side for c, turn, side in zip(columns, turns, grid.extent, strict=True)]
        columns = columns[::-1]
        if self.signature.evolves:
            times = points.times
            if times is None:
                raise SignatureError("A problem that evolves is asked at points and times; times are missing.")
            odd = (times < -_SAME_TIME * self.duration) | (times > self.duration * (1 + _SAME_TIME))
            if bool(odd.any()):
                raise SignatureError(
                    f"The problem lasts from 0 to {self.duration:g}; a point at the time {float(times[odd][0]):g} lies "
                    "outside."
                )
            columns.append(times.to(like))
        return torch.stack(columns, dim=1)

    def _features(self, coordinates: Tensor, orders: Mapping[str, int], ways: Tensor) -> Jets:
        """Return what the network is given, with Taylor coefficients along lines; ways are ``(line, letter)``."""
        c, lengths = self.config, numbers_for(self._lengths, coordinates)
        around = in_a_row([place for place in range(len(lengths)) if place not in self._straight])
        straight = in_a_row(self._straight)
        unit = coordinates / lengths
        rates = ways / lengths  # of the unit coordinates along each line, (line, coordinate)
        counts = torch.arange(1, (c.harmonics or 1) + 1, device=unit.device, dtype=unit.dtype)
        turns, spins = (
            torch.cat([(own[:, around, None] * counts).flatten(1), own[:, straight] @ self.waves.T], dim=1) * math.tau
            for own in (unit, rates)
        )
        size, middle = (2.0, 1.0) if c.scaled else (lengths[straight], 0.0)
        planes = [torch.cat([unit[:, straight] * size - middle, turns.cos(), turns.sin()], dim=1)]
        for line, highest in enumerate(orders.values()):
            for order in range(1, highest + 1):
                ahead, factor = turns + order * math.pi / 2, spins[line] ** order / math.factorial(order)
                along = rates[line, straight] * size if order == 1 else torch.zeros_like(rates[line, straight])
                planes.append(
                    torch.cat([along.expand(len(unit), -1), ahead.cos() * factor, ahead.sin() * factor], dim=1)
                )
        return Jets(torch.stack(planes), orders)

    def _factor(self, coordinates: Tensor, orders: Mapping[str, int], ways: Tensor) -> Jets | None:
        """Return φ, at most 1, with its Taylor coefficients along lines; of what vanishes nowhere None."""
        found: Jets | None = None
        for letter, ends in (self.config.kept or {}).items():
            column = self.letters.index(letter)
            unit, rates = coordinates[:, column] / self._lengths[column], ways[:, column] / self._lengths[column]
            size = 2.0 if ends == "both" else 1.0
            for end, place, rate in (("low", unit, rates), ("high", 1 - unit, -rates)):
                if ends in (end, "both"):
                    own = _line_through(place * size, rate * size, orders)
                    found = own if found is None else found.times(own)
        return found


def _line_through(values: Tensor, rates: Tensor, orders: Mapping[str, int]) -> Jets:
    """Return what changes in proportion along lines, ``(plane, point, 1)``."""
    planes = [values]
    for rate, highest in zip(rates, orders.values(), strict=True):
        planes += [rate.expand_as(values), *[torch.zeros_like(values)] * (highest - 1)]
    return Jets(torch.stack(planes)[..., None], orders)
