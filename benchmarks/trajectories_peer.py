"""Trajectories by exponax, in a process of its own environment; started by ``trajectories.py``.

Reads one JSON line on its standard input for each request and answers with one: ``{"case": …}`` prepares and compiles,
``{"run": n}`` runs it so often and answers the seconds of each, ``{"save": path}`` writes the answer of the last run.
Samples have a coefficient each: the steppers are made inside of what is jitted and vectorized.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import exponax
import jax
import jax.numpy as jnp
import numpy as np


def stepper(case: dict[str, Any], coefficients: jax.Array) -> Any:
    about = {"domain_extent": case["extent"], "num_points": case["num_points"], "dt": case["step"], "order": 4}
    if case["name"] == "burgers":
        return exponax.stepper.Burgers(1, **about, diffusivity=coefficients[0], conservative=True)
    if case["name"] == "kuramoto_sivashinsky":
        return exponax.stepper.KuramotoSivashinskyConservative(
            1, **about, second_order_scale=coefficients[0], fourth_order_scale=coefficients[1]
        )
    return exponax.stepper.NavierStokesVorticity(2, **about, diffusivity=coefficients[0])


def trajectories(case: dict[str, Any]) -> Callable[..., jax.Array]:
    """Return the jitted march of all samples, ``(batch, frames, 1, *space)``."""

    def one(start: jax.Array, coefficients: jax.Array) -> jax.Array:
        repeated = exponax.repeat(stepper(case, coefficients), case["num_steps"])
        return exponax.rollout(repeated, case["num_frames"])(start)

    return jax.jit(jax.vmap(one))


def main() -> None:
    print(json.dumps({"exponax": exponax.__version__, "jax": jax.__version__}), flush=True)
    made, march, given = None, None, ()
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "case" in request:
            stored = np.load(request["inputs"])
            given = (jnp.asarray(stored["start"]), jnp.asarray(stored["coefficients"]))
            march = trajectories(request["case"])
            march(*given).block_until_ready()
        elif "run" in request:
            assert march is not None
            answer["seconds"] = []
            for _ in range(request["run"]):
                begin = time.perf_counter()
                made = march(*given).block_until_ready()
                answer["seconds"].append(time.perf_counter() - begin)
        else:
            np.save(request["save"], np.asarray(made))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
