"""Make the models that come with the package, ``scifm/zoo``: train by their recipes, pack, score what was packed.

    python scripts/make_zoo.py --runs runs/zoo [NAME …]

Runs that are complete are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import scifm
from scifm.config import read_toml, shipped_recipes
from scifm.data.run_origin import RunOrigin, provenance_of
from scifm.distillation.compress import compress
from scifm.evaluation.evaluate import evaluate, score_of
from scifm.findings.provenance import Scored
from scifm.models.folder import FILES
from scifm.shipped import SHIPPED
from scifm.training.pretrain import pretrain

NUM_SCORED = 512
SEED = 1  # not that of the training
LICENSE = "mit"


def main() -> None:
    """Make those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as poisson-nano; default: all that have a recipe")
    parser.add_argument("--runs", default="runs/zoo", help="folder of the trainings")
    options = parser.parse_args()
    recipes = [name for name in shipped_recipes() if name.startswith("zoo/")]
    for name in options.names or [recipe.removeprefix("zoo/") for recipe in recipes]:
        make(name, options.runs)


def make(name: str, runs: str) -> None:
    """Train a model, and put it, packed and scored, into its folder."""
    store = read_toml(f"zoo/{name}").get("data", {}).get("store")
    if store is not None and not Path(store).is_dir():
        raise SystemExit(f"Make the store '{store}' first, as the recipe says (scifm recipes zoo/{name}).")
    run = pretrain(f"zoo/{name}", out=runs)
    resolved = RunOrigin(provenance_of(run).origin).resolved()  # of a store, more of what made it
    samples, about = resolved.unseen(NUM_SCORED, SEED)
    whole = score_of(evaluate(run, samples, origin=about, record=False))
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "packed"
        compress(run, samples, packed, origin=about)
        score = score_of(evaluate(packed, samples, origin=about))
        alone = [member.origin.unseen(NUM_SCORED, SEED) for member in getattr(resolved, "members", ())]
        parts = [score_of(evaluate(packed, some, origin=of)) for some, of in alone]
        operator = scifm.load_operator(packed)
        operator.provenance = replace(provenance_of(run), scores=(score, *parts), recipe=f"zoo/{name}")
        shutil.rmtree(SHIPPED / name, ignore_errors=True)
        card = {"title": f"scifm/{name}", "description": described(whole), "license": LICENSE}
        operator.save_pretrained(SHIPPED / name, card=card, codec="int8")
    size = sum((SHIPPED / name / file).stat().st_size for file in FILES)
    print(f"{name}: {score.errors}, {size / 2**20:.2f} MiB; before it was packed {whole.errors}")


def described(whole: Scored) -> str:
    """Return what the page says first."""
    errors = ", ".join(f"{metric} {error:.3g}" for metric, error in whole.errors.items())
    return (
        "Comes with SciFM, to begin with: ask it, fine-tune it, play with it. Its weights are packed as 8-bit "
        f"integers, which is what was scored below; before, the same samples gave {errors}."
    )


if __name__ == "__main__":
    main()
