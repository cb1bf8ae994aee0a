"""Watch a training with a function of your own: it is called with every event while the run goes on."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import scifm

RECIPE = Path(__file__).parents[1] / "recipes" / "poisson-tiny.toml"


# --8<-- [start:code]
def main(folder: str | Path) -> list[tuple[int, float]]:
    """Train in `folder`; return steps and validation errors as they were told."""
    curve = []

    def watch(event: str, step: int, **numbers: Any) -> None:
        if event == "valid":
            curve.append((step, numbers["relative_l2"]))
            print(f"step {step}: validation error {numbers['relative_l2']:.3f}")
        elif event in ("spike", "damaged", "logger_failed"):
            print(f"step {step}: {event}, look at it: {numbers}")

    run = scifm.pretrain(RECIPE, out=folder, observe=watch)
    log = [event for event in run.metrics() if event["event"] == "valid"]  # the same, from metrics.jsonl
    assert curve == [(event["step"], event["relative_l2"]) for event in log]
    return curve


# --8<-- [end:code]
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as some_folder:
        main(sys.argv[1] if len(sys.argv) > 1 else some_folder)
