"""When does an ensemble help? Votes on handwritten digits, and what the evidence says of inputs that mean nothing.

On scikit-learn's digits (898 to train, 899 to test, 10 classes): random forests of 100 trees with more and more leaves;
30 bagged classifiers on random ReLU features, more and more of them; 5 networks from different first weights on 200
digits, wider and wider. Of each the error of a member and of the vote, the disagreement–error ratio (DER) and the
ensemble improvement rate (EIR, `scifm.trust.ensembling`). Then two experiments with Gaussian processes
(`scifm.trust.evidence`). About a minute of a core; needs scikit-learn, which ``make install-dev`` brings.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness import Row, argument_parser, publish, put_into
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.report.drawing import write_figure
from scifm.trust.ensembling import Vote, lower_bound, vote_of
from scifm.trust.evidence import excess_evidence, excess_limit, predictive_loss

LEAVES, FEATURES, WIDTHS = (10, 20, 50, 100, 300), (10, 20, 50, 100, 200, 400), (2, 4, 8, 32, 128)
RATIOS, INPUTS, NOISES = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0), (20, 40, 50, 55, 60, 65, 80, 120, 240, 480), (1e-3, 1e-1)
NUM_SAMPLES = 60
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "concepts" / "ensembles.md"


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the halves of the digits, pixels from 0 to 1: inputs and classes to train on, and to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x / 16, y, test_size=899, random_state=0, stratify=y)
    return train_x, train_y, test_x, test_y


def forest(leaves: int, *, trees: int = 100, seed: int = 0) -> tuple[Vote, float]:
    """Return the vote of a forest on unseen digits, and the mean error of its trees on those they were drawn from."""
    from sklearn.ensemble import RandomForestClassifier

    train_x, train_y, test_x, test_y = digits()
    model = RandomForestClassifier(trees, max_leaf_nodes=leaves, random_state=seed).fit(train_x, train_y)
    answers = np.stack([tree.predict(test_x).astype(int) for tree in model.estimators_])
    own = [
        np.mean(tree.predict(train_x[index]) != train_y[index])
        for tree, index in zip(model.estimators_, model.estimators_samples_, strict=True)
    ]
    return vote_of(answers, test_y, 10), float(np.mean(own))


def bagged(features: int, *, members: int = 30, seed: int = 0) -> tuple[Vote, float]:
    """Return the same of classifiers on random ReLU features, each on a sample drawn with replacement."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train_x, train_y, test_x, test_y = digits()
    generator, answers, own = np.random.default_rng(seed), [], []
    for _ in range(members):
        weights = generator.standard_normal((train_x.shape[1], features)) / np.sqrt(train_x.shape[1])
        shift = generator.standard_normal(features) / np.sqrt(train_x.shape[1])
        index = generator.integers(len(train_y), size=len(train_y))
        seen, unseen = (np.maximum((x - 0.5) @ weights + shift, 0) for x in (train_x[index], test_x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=1e6, max_iter=2000).fit(seen, train_y[index])
        answers.append(model.predict(unseen))
        own.append(np.mean(model.predict(seen) != train_y[index]))
    return vote_of(np.stack(answers), test_y, 10), float(np.mean(own))


def networks(width: int, *, members: int = 5, seed: int = 0, num_samples: int = 200) -> tuple[Vote, float]:
    """Return the same of networks with two hidden layers, from different first weights on the same few digits."""
    from sklearn.neural_network import MLPClassifier

    train_x, train_y, test_x, test_y = digits()
    train_x, train_y = train_x[:num_samples], train_y[:num_samples]
    answers, own = [], []
    for member in range(members):
        hidden = (width, width)
        model = MLPClassifier(hidden, alpha=0.0, max_iter=3000, n_iter_no_change=50, random_state=100 * seed + member)
        model.fit(train_x, train_y)
        answers.append(model.predict(test_x))
        own.append(np.mean(model.predict(train_x) != train_y))
    return vote_of(np.stack(answers), test_y, 10), float(np.mean(own))


KINDS = {
    "random forest, leaves": (forest, LEAVES),
    "bagged ReLU features": (bagged, FEATURES),
    "5 networks, width": (networks, WIDTHS),
}


def votes() -> Iterator[tuple[str, int, Vote, float]]:
    for kind, (train, sizes) in KINDS.items():
        for size in sizes:
            vote, own = train(size)
            print(kind, size, f"{own:.3f}", vote, flush=True)
            yield kind, size, vote, own


def rows_of(found: list[tuple[str, int, Vote, float]]) -> list[Row]:
    rows = []
    for kind, size, vote, own in found:
        measured = {
            "error of a member": vote.member_error,
            "error of the vote": vote.vote_error,
            "error of a member on its own samples": own,
            "DER": vote.der,
            "DER, unlike members": vote.der_apart,
            "EIR": vote.eir,
            "least EIR of competent members": vote.least_eir,
            "competence, smallest margin": vote.competence,
        }
        rows += [Row(f"{kind} {size}", name, value, "share of samples") for name, value in measured.items()]
    return rows


def as_table(found: list[tuple[str, int, Vote, float]]) -> str:
    lines = ["| members | error of one | of the vote | on its own samples | EIR at least | EIR | DER | competence |"]
    lines.append("|---" + "|---:" * 7 + "|")
    for kind, size, vote, own in found:
        numbers = (vote.member_error, vote.vote_error, own, vote.least_eir, vote.eir, vote.der, vote.competence)
        lines.append(f"| {kind} {size} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines).replace("| -", "| −")


def drawn_votes(found: list[tuple[str, int, Vote, float]]) -> Figure:
    """EIR over DER, with the two bounds where they say something; then both over the size of members."""
    plane, sizes = [], []
    for place, kind in enumerate(KINDS):
        own = [(size, vote) for name, size, vote, _ in found if name == kind]
        x, y = tuple(vote.der for _, vote in own), tuple(vote.eir for _, vote in own)
        plane.append(Series(label=kind, x=x, y=y, notes=tuple(str(size) for size, _ in own), place=place))
        by_size = (("DER", x, 3), ("EIR", y, 4), ("error of a member", tuple(vote.member_error for _, vote in own), 5))
        of_size = tuple(float(size) for size, _ in own)
        sizes.append(
            Panel(
                x=Axis(label=kind.split(", ")[-1] if ", " in kind else "features", scale="log"),
                y=Axis(label="ratio, or share of samples", low=0.0, high=1.6),
                series=tuple(Series(label=label, x=of_size, y=values, place=hue) for label, values, hue in by_size),
                group=kind.split(", ")[0],
            )
        )
    for label, ends, line in (("most, if competent", (0.3, 1.0), "dotted"), ("least", (2.6 / 1.8, 1.55), "dashed")):
        y = ends if label.startswith("most") else tuple(lower_bound(der, 10) for der in ends)
        plane.append(Series(label=label, x=ends, y=y, marked=False, line=line, place=6 if line == "dotted" else 7))
    axes = Axis(label="disagreement over error (DER)"), Axis(label="improvement (EIR)", low=0.0, high=1.0)
    first = Panel(x=axes[0], y=axes[1], series=tuple(plane), group="What disagreement gives")
    return Figure(
        caption="Votes on digits: the share of the error that the vote takes away (EIR) over disagreement beside the "
        "error of a member (DER), with the bounds of competent members; numbers are leaves of a tree, random features, "
        "width of a network. Then both, and the error of a member, by these numbers.",
        panels=(first, *sizes),
        columns=2,
    )


def drawn_evidence(excess: dict[float, np.ndarray], losses: dict[float, np.ndarray]) -> Figure:
    """The evidence by the number of inputs, and the predictive loss."""
    ratios = tuple(excess)
    many = np.geomspace(1.05, 10, 60)
    means = tuple(float(own.mean()) for own in excess.values())
    spread = [1.96 * float(own.std()) / np.sqrt(len(own)) for own in excess.values()]
    ends = {
        "low": tuple(m - s for m, s in zip(means, spread, strict=True)),
        "high": tuple(m + s for m, s in zip(means, spread, strict=True)),
    }
    left = Panel(
        x=Axis(label="inputs over samples", scale="log"),
        y=Axis(label="excess of −2 log evidence, a sample"),
        series=(
            Series(label="60 samples, 200 draws", x=ratios, y=means, joined=False, interval="bar", place=0, **ends),
            Series(
                label="limit of many samples", x=tuple(many), y=tuple(map(excess_limit, many)), marked=False, place=1
            ),
        ),
        group="The evidence only improves",
    )
    right = Panel(
        x=Axis(label="inputs", scale="log"),
        y=Axis(label="predictive squared error", scale="log"),
        series=tuple(
            Series(label=f"noise {noise:g}", x=INPUTS, y=tuple(own), place=2 + place)
            for place, (noise, own) in enumerate(losses.items())
        ),
        rules=(Rule(at=float(NUM_SAMPLES), crosses="x", line="dotted", told="as many inputs as samples"),),
        group="Predictions are worst where inputs are as many as samples",
    )
    return Figure(
        caption="A linear Gaussian process is given inputs that the answer does not hang on, 60 samples. Left: how "
        "much worse than independent normal numbers it takes the answers, at the best scale. Right: the expected "
        "squared error of what its posterior draws, at one scale; the truth has a variance of one.",
        panels=(left, right),
    )


def main() -> None:
    """Run the benchmark."""
    parser: argparse.ArgumentParser = argument_parser(__doc__ or "")
    parser.add_argument("--page", action="store_true", help="write table and figures into the documentation")
    arguments = parser.parse_args()
    found = list(votes())
    rows = rows_of(found)
    excess = {c: excess_evidence(NUM_SAMPLES, round(c * NUM_SAMPLES), num_draws=200) for c in RATIOS}
    for ratio, own in excess.items():
        case = f"{ratio:g} times as many inputs as {NUM_SAMPLES} samples"
        rows += [Row(case, "excess of −2 log evidence a sample", float(own.mean()), "")]
        rows += [Row(case, "its limit of many samples", excess_limit(ratio), "")]
    losses = {noise: predictive_loss(NUM_SAMPLES, INPUTS, noise=noise, num_draws=200) for noise in NOISES}
    for noise, own in losses.items():
        rows += [
            Row(f"{inputs} inputs, noise {noise:g}", "predictive squared error", float(value), "variance of the truth")
            for inputs, value in zip(INPUTS, own, strict=True)
        ]
    publish("When ensembles help", rows, arguments.json)
    if arguments.page:
        put_into(PAGE, "votes", as_table(found))
        write_figure(drawn_votes(found), DOCS / "images" / "ensembles-votes.svg")
        write_figure(drawn_evidence(excess, losses), DOCS / "images" / "ensembles-evidence.svg")


if __name__ == "__main__":
    main()
