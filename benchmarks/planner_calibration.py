"""Does the planner's interval hold the truth as often as it says, on a study's own learning curves?

Takes the table of a finished study, leaves one system out at a time, predicts from the points with at most ``--few``
samples how many the errors reached later would need, and counts (see ``scifm.studies.calibration``). Writes the cases
as CSV and the calibration plot as PNG. Without a study there is nothing to do, and it says so.
"""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

from harness import Row, argument_parser, publish
from scifm.studies.calibration import Calibration, calibrate
from scifm.studies.table import read_table

matplotlib.use("agg")
from matplotlib import pyplot as plt


def draw(found: Calibration, path: Path) -> None:
    """Draw the share of truths inside against the level asked for."""
    figure, axes = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect")
    axes.plot(found.levels, found.coverages, "o-", color="#0072b2", markersize=4, label="the planner")
    pairs = [(x, y) for x, y in zip(found.levels, found.widened_coverages, strict=True) if y is not None]
    axes.plot(*zip(*pairs, strict=True), "s--", color="#d55e00", markersize=3.5, label="level set by the other systems")
    axes.fill_between([0.78, 0.82], 0.65, 0.95, color="0.85", zorder=0, label="65 to 95 % at level 0.8")
    axes.set(xlabel="level of the interval", ylabel="share of true needs inside", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.set_title(f"{len(found.cases)} predictions from at most {found.few} samples", fontsize=9)
    figure.savefig(path, dpi=150)


def write_cases(found: Calibration, path: Path) -> None:
    """Write a row for every prediction."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        of_curve, of_need = ("kind", "system", "target", "source", "size", "seed"), ("median", "low", "high")
        writer = csv.DictWriter(handle, [*of_curve, "error", "needed", *of_need, "share", "inside"])
        writer.writeheader()
        for case in found.cases:
            entries = {name: getattr(case.curve, name) for name in of_curve}
            entries |= {"error": case.error, "needed": case.needed, "share": case.share}
            entries |= {name: getattr(case.need, name) for name in of_need}
            rounded = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in entries.items()}
            writer.writerow(rounded | {"inside": case.depth <= found.level})


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/transfer-workstation"))
    parser.add_argument("--few", type=int, default=64, help="largest number of samples the predictions see")
    parser.add_argument("--level", type=float, default=0.8)
    parser.add_argument("--out", type=Path, help="folder for planner-calibration.csv")
    parser.add_argument("--figures", type=Path, help="folder for planner-calibration.png")
    arguments = parser.parse_args()
    if not (arguments.study / "table.parquet").is_file():
        print(f"Skipped: no finished study in '{arguments.study}'. Make one with 'scifm study' and give its folder.")
        return
    rows = [row for row in read_table(arguments.study / "table.parquet") if "+" not in row.source]
    found = calibrate(rows, few=arguments.few, level=arguments.level)
    case = f"few = {found.few}, level {found.level:g}"
    results = [Row(case, "predictions", len(found.cases), "cases")]
    tasks = {(c.kind, c.target, c.size, c.source) for c in (case.curve for case in found.cases)}
    results.append(Row(case, "different (kind, task, size, source)", len(tasks), "cases"))
    results += [Row(case, f"coverage, {kind}", share, "share") for kind, share in found.coverage.items()]
    results += [Row(case, f"level to ask, {k}", v, "level") for k, v in found.level_to_ask.items() if v is not None]
    if found.median_factor is not None:
        results.append(Row(case, "median factor between predicted and true need", found.median_factor, "ratio"))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_cases(found, arguments.out / "planner-calibration.csv")
    if arguments.figures is not None:
        draw(found, arguments.figures / "planner-calibration.png")
    publish("Calibration of the planner", results, arguments.json)


if __name__ == "__main__":
    main()
