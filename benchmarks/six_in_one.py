"""Six physics in one network: what does it cost against six specialists that saw as many samples of their system?

All learn from the same stores (heat, Allen–Cahn, Gray–Scott, Navier–Stokes, shallow water, acoustic waves), by the same
recipe (`recipes/multiphysics-nano.toml`, its stores in place of its systems). The mixture takes six times the steps of
a specialist, so that both see equal samples of each system. Scored are unseen trajectories: VRMSE of one step, the
median over windows of the mean over fields; and the geometric mean over systems of the mixture's over the
specialist's. A specialist takes a sixth of the mixture's steps, then; ``--as-long heat`` trains one more that takes
all of them, to tell what comes of other systems from what comes of more steps.

Stores, runs and numbers stay in ``--folder``: started again, only what is missing is done, and with other steps or
settings only what these change.
"""

from __future__ import annotations

import json
import statistics
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import torch

from harness import Row, argument_parser, publish, put_into
from scifm.config import config_hash, read_toml
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.evaluation.pointwise import METRICS
from scifm.fields.window import Window
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.catalog import system_from_dict
from scifm.training.pretrain import PretrainRecipe, pretrain

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "multiphysics-nano.toml"
MIXTURE = "all six"


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    tree = read_toml(RECIPE)
    stores = {entry["name"]: store_of(entry, options) for entry in tree["mixture"]}
    found = {name: scores_of([name], stores, tree, options) for name in stores}
    found[MIXTURE] = scores_of(list(stores), stores, tree, options)
    longer = {name: scores_of([name], stores, tree, options, shares=len(stores))[name] for name in options.as_long}
    rows = rows_of(found)
    rows += [Row(name, "specialist, as many steps: VRMSE of one step", error, "1") for name, error in longer.items()]
    if options.docs:
        put_into(options.docs, "benchmarks/six_in_one.py", table_of(found, longer, options))
    publish("Six systems in one network", rows, options.json)


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="DIR", help="where stores, runs and numbers are kept"
    )
    parser.add_argument("--steps", type=int, default=3000, help="of a specialist; the mixture takes six times as many")
    parser.add_argument("--as-long", nargs="*", default=[], metavar="SYSTEM", help="of which one takes the same steps")
    parser.add_argument("--trajectories", type=int, default=256, help="to train on, of each system")
    parser.add_argument("--num-points", type=int, default=32, help="points a side")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    return parser.parse_args()


def store_of(entry: dict, options: Namespace) -> Store:
    """Return the store of a member of the recipe's mixture, made now where it is not there."""
    system = system_from_dict({"knobs": {}, "options": {}, **entry})
    counts = {"train": options.trajectories, "valid": 16, "test": 32}
    path = options.folder / "stores" / f"{system.name}-{options.num_points}-{options.trajectories}"
    return generate(system, num_samples=counts, num_points=options.num_points, path=path)


def scores_of(
    names: list[str], stores: dict[str, Store], tree: dict, options: Namespace, *, shares: int | None = None
) -> dict[str, float]:
    """Return the errors by system of the network that learns from these systems, trained now where it was not."""
    recipe = recipe_of(names, stores, tree, options, shares or len(names))
    file = options.folder / "results" / f"{recipe.name}-{config_hash(recipe.to_record())}.json"
    if file.is_file():
        return json.loads(file.read_text("utf-8"))
    operator = load_operator(pretrain(recipe, out=options.folder / "runs"))
    found = {name: error_of(operator, stores[name]) for name in names}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found), "utf-8")
    return found


def recipe_of(
    names: list[str], stores: dict[str, Store], tree: dict, options: Namespace, shares: int
) -> PretrainRecipe:
    """Return the recipe of the house for some of its systems, from stores, with so many shares of the steps."""
    paths = [str(stores[name].path) for name in names]
    data = {"history": tree["data"]["history"], "num_validation_samples": 32 * len(names)}
    steps = options.steps * shares
    training = {**tree["training"], "num_steps": steps, "validate_every": steps}
    own = {"mixture": [{"store": path} for path in paths], "data": data}
    if len(names) == 1:
        own = {"data": {**data, "store": paths[0]}}
    name = names[0].replace("_", "-") if len(names) == 1 else "mixture"
    return PretrainRecipe.read({"name": name, "model": tree["model"], "training": training, **own})


def error_of(operator: Operator, store: Store) -> float:
    """Return the median over all windows of unseen trajectories of the VRMSE of one step, the mean over fields."""
    samples = operator.align(store.split("test", Window(history=operator.history)).load())
    answers = operator.answers(samples).require_targets()
    errors, there = METRICS["vrmse"](answers, samples.require_targets(), samples.grid), samples.counted()
    there = torch.ones_like(errors, dtype=torch.bool) if there is None else there
    each = torch.where(there, errors, 0.0).flatten(1).sum(1) / there.flatten(1).sum(1)
    return float(each.median())


def rows_of(found: dict[str, dict[str, float]]) -> list[Row]:
    """Return errors and ratios."""
    rows = [Row(name, "specialist: VRMSE of one step", found[name][name], "1") for name in names_of(found)]
    rows += [Row(name, "mixture: VRMSE of one step", found[MIXTURE][name], "1") for name in names_of(found)]
    ratios = [found[MIXTURE][name] / found[name][name] for name in names_of(found)]
    rows += [
        Row(name, "mixture over specialist", ratio, "ratio")
        for name, ratio in zip(names_of(found), ratios, strict=True)
    ]
    return [*rows, Row("all", "geometric mean of the ratios", statistics.geometric_mean(ratios), "ratio")]


def names_of(found: dict[str, dict[str, float]]) -> Iterable[str]:
    """Return the systems."""
    return [name for name in found if name != MIXTURE]


def table_of(found: dict[str, dict[str, float]], longer: dict[str, float], options: Namespace) -> str:
    """Return what the documentation shows."""
    lines = [
        f"{options.trajectories} trajectories of each system at {options.num_points}², {options.steps:,} steps of a "
        f"specialist, {6 * options.steps:,} of the mixture; VRMSE of one step on 32 unseen trajectories, one seed.",
        "",
        "| system | specialist | all six in one | ratio | specialist, as many steps as all six |",
        "|---|---|---|---|---|",
    ]
    for name in names_of(found):
        one, six = found[name][name], found[MIXTURE][name]
        long = f"{longer[name]:.3g}" if name in longer else ""
        lines.append(f"| {name} | {one:.3g} | {six:.3g} | {six / one:.2f} | {long} |")
    mean = statistics.geometric_mean(found[MIXTURE][name] / found[name][name] for name in names_of(found))
    return "\n".join([*lines, f"| geometric mean | | | {mean:.2f} | |"])


if __name__ == "__main__":
    main()
