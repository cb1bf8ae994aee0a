"""The problem of ``pinn_step.py`` in DeepXDE (PyTorch backend): run by that file, with another Python.

It is given the points and the first weights in a file, and then one word a line: ``loss`` computes the loss and its
gradient so many times, ``lbfgs`` takes so many iterations from the first weights. It answers seconds a piece and the
loss.
"""

import json
import os
import sys
import time

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde as dde
import numpy as np
import torch


class Closed(dde.icbc.BC):
    """u(0, t) = u(L, t) at given points, those of one side first."""

    def __init__(self, geometry, points):
        super().__init__(geometry, lambda x, on: on, 0)
        self.points = points

    def collocation_points(self, X):
        return self.points

    def error(self, X, inputs, outputs, beg, end, aux_var=None):
        middle = (beg + end) // 2
        return outputs[beg:middle, 0:1] - outputs[middle:end, 0:1]


class Given(dde.data.TimePDE):
    """Points of the equation are those that are given, and no others."""

    given = None

    def train_points(self):
        return self.given


def main() -> None:
    path, speed, threads, clock = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), getattr(time, sys.argv[4])
    torch.set_num_threads(threads)
    data = np.load(path)
    geometry = dde.geometry.GeometryXTime(dde.geometry.Interval(0, 2 * np.pi), dde.geometry.TimeDomain(0, 1))

    def equation(x, u):
        return dde.grad.jacobian(u, x, i=0, j=1) + speed * dde.grad.jacobian(u, x, i=0, j=0)

    conditions = [Closed(geometry, data["seam"]), dde.icbc.PointSetBC(data["start"], data["value"])]
    Given.given = data["equation"]
    problem = Given(geometry, equation, conditions, num_domain=len(data["equation"]))
    network = dde.nn.FNN([2, 50, 50, 50, 50, 1], "tanh", "Glorot normal")
    model = dde.Model(problem, network)
    model.compile("adam", lr=1e-3)
    model.train_state.set_data_train(*problem.train_next_batch())
    first = [torch.from_numpy(data[f"weight{i}"]) for i in range(len(list(network.parameters())))]
    rows = model.train_state.X_train, model.train_state.y_train, model.train_state.train_aux_vars

    def reset():
        with torch.no_grad():
            for weight, value in zip(network.parameters(), first, strict=True):
                weight.copy_(value)

    def loss():
        for weight in network.parameters():
            weight.grad = None
        total = torch.sum(model.outputs_losses_train(*rows)[1])
        total.backward()
        return total

    reset()
    print("ready", flush=True)
    for line in sys.stdin:
        what, count = line.split()
        reset()
        begins = clock()
        if what == "loss":
            for _ in range(int(count)):
                last = float(loss().detach())
            done = int(count)
        else:
            optimizer = torch.optim.LBFGS(
                network.parameters(), max_iter=int(count), history_size=50, line_search_fn="strong_wolfe",
                tolerance_grad=0, tolerance_change=0,
            )  # fmt: skip
            optimizer.step(loss)
            done = optimizer.state[next(network.parameters())]["n_iter"]
            last = float(loss().detach())
        print(json.dumps({"seconds": (clock() - begins) / done, "loss": last}), flush=True)


if __name__ == "__main__":
    main()
