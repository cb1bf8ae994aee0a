"""Channel surgery: a trained operator for data with other fields and coefficients.

What is matched by name (or by a given renaming) keeps its weights; what is new gets fresh rows in the first or the last
map; what the data lack is taken out, which is the same as standing at its mean for ever. Everything between, where the
physics was learned, is carried over untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch

from scifm.errors import ConfigError, SignatureError, suggest
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import DrawingFrom, generator_for
from scifm.models.equations import called_anew
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.wording import plural

__all__ = ["fits", "renamed", "with_channels"]

OperatorT = TypeVar("OperatorT", bound=Operator)
Channel = tuple[Role, str]


def fits(operator: Operator, signature: Signature, grid: Grid) -> bool:
    """Tell whether an operator takes such data as it is: it knows every name, and needs no other input field."""
    ours = operator.signature
    if not ours.missing_from(signature) and operator.knows_form(signature.fields):
        return operator.config.on(grid) == operator.config
    same_kind = (ours.num_spatial_dims, ours.evolves) == (signature.num_spatial_dims, signature.evolves)
    known = not ours.missing_from(signature) and set(ours.inputs) == set(signature.inputs)
    settled = operator.config.on(grid) == operator.config  # else it would be given positions
    return same_kind and known and set(ours.outputs) == set(signature.outputs) and settled


def renamed(operator: OperatorT, names: Mapping[str, str]) -> OperatorT:
    """Give some of an operator's channels the names that new data use for them; in place, answers are unchanged.

    Args:
        operator: changed and returned.
        names: new name → name the operator knows.

    Raises:
        ConfigError: if the operator does not know an old name, or two would get one name.
    """
    ours = operator.signature
    known = {*ours.inputs, *ours.coefficients, *ours.outputs}
    for old in names.values():
        if old not in known:
            raise ConfigError(f"Renaming: {suggest(old, known)}")
    new = {old: name for name, old in names.items()}
    if len(new) != len(names):
        raise ConfigError(f"Renaming: two new names for one old one in {dict(names)}.")

    def call(name: str) -> str:
        return new.get(name, name)

    def rename(homogeneity: Homogeneity) -> Homogeneity:
        return replace(
            homogeneity,
            exponents=tuple((call(name), power) for name, power in homogeneity.exponents),
            gauge=tuple(map(call, homogeneity.gauge)),
            parts=tuple(map(rename, homogeneity.parts)),
        )

    try:
        inputs, coefficients, outputs = (tuple(map(call, p)) for p in (ours.inputs, ours.coefficients, ours.outputs))
        operator.signature = replace(ours, inputs=inputs, coefficients=coefficients, outputs=outputs)
    except SignatureError as error:
        raise ConfigError(f"Renaming {dict(names)} gives one name to two channels: {error}") from error
    called_anew(operator, call)
    operator.domain, operator.config = operator.domain.renamed(call), operator.config.renamed(call)
    scalings = tuple(map(rename, operator.normalization.homogeneities))
    operator.normalization = replace(operator.normalization, homogeneities=scalings)
    return operator


def with_channels(
    operator: OperatorT,
    signature: Signature,
    grid: Grid,
    normalization: Normalization,
    *,
    generator: torch.Generator,
    config: OperatorConfig | None = None,
) -> tuple[OperatorT, list[dict[str, str]]]:
    """Return an operator for another signature that keeps every weight it can; the given one is left as it is.

    Args:
        grid: of the new data; walls add channels of position if there are none.
        normalization: fitted on the new data: units differ, and the hidden layers expect numbers of order one.
        generator: of fresh weights.
        config: its settings with what they left to the first data settled: by data that evolve, where it was trained on
            what does not, a history and whether it is told how far ahead it looks; else `grid` alone settles them.

    Returns:
        The new operator, and what became of each channel, old and new: its ``role`` (``input``, ``mask``,
        ``coefficient``, ``position`` or ``output``), its ``name``, and ``became``: ``reused``, ``added`` with fresh
        weights, or ``dropped``.

    Raises:
        ConfigError: if the operator does not tell where its channels enter and leave.
        SignatureError: if the number of spatial dimensions differs.
    """
    ends = operator.outer_maps()
    if ends is None:
        raise ConfigError(
            f"An operator of kind '{operator.kind}' does not tell where its channels enter and leave, so none can be "
            "added or taken. Use data with the names it knows, or train from scratch."
        )
    theirs = operator.signature
    if signature.num_spatial_dims != theirs.num_spatial_dims:
        raise SignatureError(
            f"The operator was trained in {theirs.num_spatial_dims} dimensions and the data have "
            f"{signature.num_spatial_dims}: its Fourier modes do not carry over. Train from scratch."
        )
    config = (config or operator.config.on(grid)).within(signature)
    # all are replaced below but those of parts that the operator has not, such as attention over time
    with DrawingFrom(generator_for(generator.initial_seed() % 2**63, "new parts")):
        result = type(operator)(signature, config, normalization=normalization)
    result.domain, result.provenance = replace(operator.domain, forms=()), operator.provenance
    fresh = result.outer_maps()
    assert fresh is not None
    outer = {id(ends.first.weight), id(ends.last.weight), id(ends.last.bias), *(id(m.weight) for m in ends.conditioned)}
    outer |= set() if ends.shown is None else {id(ends.shown.weight)}
    inner = {name: p for name, p in operator.weights_for(result).items() if id(p) not in outer}
    result.load_state_dict(inner, strict=False)
    before, after = _channels(operator, ends), _channels(result, fresh)
    _carry(ends, fresh, before, after, generator)
    old, new = [*before[0], *before[1]], [*after[0], *after[1]]
    became = {channel: "reused" if channel in old else "added" for channel in new}
    became |= {channel: "dropped" for channel in old if channel not in new}
    return result, [{"role": role, "name": name, "became": what} for (role, name), what in became.items()]


def _channels(operator: Operator, ends: OuterMaps) -> tuple[list[Channel], list[Channel]]:
    """Return role and name of each column of the first map and of each row of the last, in order."""
    signature = operator.signature
    earlier = tuple(
        f"{name}, {plural(age, 'frame')} before"
        for age in range(1, 1 if operator.sees_frames else operator.history)
        for name in signature.state
    )
    names: dict[Role, tuple[str, ...]] = {
        "input": (*signature.inputs, *earlier),
        "mask": (*signature.inputs, *earlier),
        "position": ("z", "y", "x")[-signature.num_spatial_dims :],
        "coefficient": signature.coefficients,
        "lead_time": ("lead_time",),
    }
    columns: list[Channel] = [(role, name) for role in ends.columns for name in names[role]]
    return columns, [("output", name) for name in signature.outputs]


@torch.no_grad()
def _carry(
    old: OuterMaps,
    new: OuterMaps,
    before: tuple[list[Channel], list[Channel]],
    after: tuple[list[Channel], list[Channel]],
    generator: torch.Generator,
) -> None:
    spreads = len(after[0]) ** -0.5 if new.spread is None else new.spread, new.last.in_features**-0.5
    for weight, spread in zip((new.first.weight, new.last.weight), spreads, strict=True):  # as such layers begin
        weight.copy_(torch.empty_like(weight).uniform_(-spread, spread, generator=generator))
    new.last.bias.zero_()
    for place, channel in enumerate(after[0]):
        if channel in before[0]:
            new.first.weight[:, place] = old.first.weight[:, before[0].index(channel)]
    conditions = [
        [channel for channel in channels if channel[0] in ("coefficient", "lead_time")]
        for channels in (before[0], after[0])
    ]
    for ours in new.conditioned:
        ours.weight.zero_()  # a condition nobody knew changes nothing at first
    # none are known where nothing was told but the fields
    for theirs, ours in zip(old.conditioned, new.conditioned, strict=bool(old.conditioned and new.conditioned)):
        for place, channel in enumerate(conditions[1]):
            if channel in conditions[0]:
                ours.weight[:, place] = theirs.weight[:, conditions[0].index(channel)]
    for place, channel in enumerate(after[1]):
        if channel in before[1]:
            new.last.weight[place] = old.last.weight[before[1].index(channel)]
            new.last.bias[place] = old.last.bias[before[1].index(channel)]
            if new.shown is not None and old.shown is not None:
                new.shown.weight[:, place] = old.shown.weight[:, before[1].index(channel)]
