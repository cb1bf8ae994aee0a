"""Does the planner's interval hold the truth as often as it says, on a study's own learning curves?

Takes the table of a finished study, leaves one system out at a time, predicts from the points with at most so many
samples, each of ``--few``, how many the errors reached later would need, and counts
(`scifm.studies.planner_calibration`). Writes the cases as CSV and the calibration plot as PNG.
Without a study there is nothing to do, and it says so.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

from harness import Row, argument_parser, publish
from scifm.studies.planner_calibration import LEVELS, PlannerCalibration, PredictedNeed, calibrate_planner
from scifm.studies.table import read_table

matplotlib.use("agg")
from matplotlib import pyplot as plt


def draw(calibrations: Sequence[PlannerCalibration], path: Path) -> None:
    """Draw the share of truths inside against the level asked for."""
    figure, axes = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect")
    axes.fill_between([0.78, 0.82], 0.7, 0.9, color="0.85", zorder=0, label="70 to 90 % at level 0.8")
    for one, style in zip(calibrations, ("o-", "s--", "^:"), strict=False):
        label = f"from at most {one.few} samples ({len(one.cases)})"
        axes.plot(one.levels, one.coverages, style, color="#0072b2", markersize=4, label=label)
    depths = [case.depth for one in calibrations for case in one.cases]
    together = [sum(depth <= level for depth in depths) / len(depths) for level in LEVELS]
    axes.plot(LEVELS, together, color="#d55e00", linewidth=2, label=f"together ({len(depths)})")
    axes.set(xlabel="level of the interval", ylabel="share of true needs inside", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    figure.savefig(path, dpi=150)


def write_cases(calibrations: Iterable[PlannerCalibration], path: Path) -> None:
    """Write a row for every prediction."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        of_curve, of_need = ("kind", "system", "target", "source", "size", "seed"), ("median", "low", "high")
        writer = csv.DictWriter(handle, ["few", *of_curve, "error", "needed", *of_need, "share", "inside"])
        writer.writeheader()
        for one in calibrations:
            for case in one.cases:
                entries = {"few": one.few} | {name: getattr(case.curve, name) for name in of_curve}
                entries |= {"error": case.error, "needed": case.needed, "share": case.share}
                entries |= {name: getattr(case.need, name) for name in of_need}
                rounded = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in entries.items()}
                writer.writerow(rounded | {"inside": case.depth <= one.level})


def shares(case: str, cases: Sequence[PredictedNeed], level: float) -> list[Row]:
    """Return how often the interval held the truth: of all, and of each kind and system."""
    rows = [Row(case, "predictions", len(cases), "cases")]
    parts = {"all": cases} | {
        f"{kind}, {system}": [c for c in cases if (c.curve.kind, c.curve.system) == (kind, system)]
        for kind, system in sorted({(c.curve.kind, c.curve.system) for c in cases})
    }
    for name, part in parts.items():
        inside = sum(c.depth <= level for c in part)
        rows.append(Row(case, f"coverage, {name} ({inside} of {len(part)})", inside / len(part), "share"))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/transfer-workstation"))
    parser.add_argument("--few", type=int, nargs="+", default=[16, 64], help="most samples that predictions see")
    parser.add_argument("--level", type=float, default=0.8)
    parser.add_argument("--out", type=Path, help="folder for planner-calibration.csv")
    parser.add_argument("--figures", type=Path, help="folder for planner-calibration.png")
    arguments = parser.parse_args()
    if not (arguments.study / "table.parquet").is_file():
        print(f"Skipped: no finished study in '{arguments.study}'. Make one with 'scifm study' and give its folder.")
        return
    table = [row for row in read_table(arguments.study / "table.parquet") if "+" not in row.source]
    found = [calibrate_planner(table, few=few, level=arguments.level) for few in arguments.few]
    rows: list[Row] = []
    for one in found:
        case = f"few = {one.few}, level {one.level:g}"
        rows += shares(case, one.cases, one.level)
        rows += [Row(case, f"level to ask, {k}", v, "level") for k, v in one.level_to_ask.items() if v is not None]
        if one.median_factor is not None:
            rows.append(Row(case, "median factor between predicted and true need", one.median_factor, "ratio"))
    rows += shares(f"together, level {arguments.level:g}", [c for one in found for c in one.cases], arguments.level)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_cases(found, arguments.out / "planner-calibration.csv")
    if arguments.figures is not None:
        draw(found, arguments.figures / "planner-calibration.png")
    publish("Calibration of the planner", rows, arguments.json)


if __name__ == "__main__":
    main()
