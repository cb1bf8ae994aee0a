"""Put a finished study's numbers into small files that can be kept: ``benchmarks/results/transfer/``.

    scifm study recipes/transfer-workstation.toml --out runs/study
    python benchmarks/transfer_results.py runs/study --out benchmarks/results/transfer --figures docs/images

Writes the table and every list of ``analysis.json`` as CSV, the verdict and the hardware as text, and, where Chromium
and Playwright are at hand, the figures of the page as PNG. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scifm.report.page import page
from scifm.studies.table import read_table

COLUMNS = [
    "kind",
    "source",
    "target",
    "size",
    "num_params",
    "num_pretrain_samples",
    "num_samples",
    "seed",
    "coefficients",
    "learning_rate",
    "trial_steps",
    "num_steps",
    "relative_l2",
    "relative_l2_median",
    "relative_l2_p90",
    "flops",
    "seconds",
    "run",
]


def plain(value: Any) -> Any:
    """Return a number short enough to read; lists and tables as JSON."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value) if isinstance(value, dict | list) else value


def write(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] | None = None) -> None:
    """Write rows as CSV; nothing for no rows."""
    rows = list(rows)
    if rows:
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(columns or rows[0]), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: plain(value) for name, value in row.items()} for row in rows)


def draw(study: Path, out: Path) -> None:
    """Take pictures of the page's figures, if there is a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("No Chromium found: figures left out.")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        view = window.new_page(viewport={"width": 1000, "height": 900}, device_scale_factor=1)
        view.goto(page(study).resolve().as_uri())
        for figure in view.query_selector_all("figure[id]"):
            name = str(figure.get_attribute("id")).replace("figure-", "study-")
            figure.screenshot(path=out / f"{name}.png")
        window.close()


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    arguments = parser.parse_args()
    study, out = arguments.study, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write(out / "table.csv", map(asdict, read_table(study / "table.parquet")), COLUMNS)
    analysis = json.loads((study / "analysis.json").read_text(encoding="utf-8"))
    for name in ("gains", "needs", "converged", "crossovers", "mixing"):
        write(out / f"{name}.csv", analysis[name])
    shift = analysis["shift"]
    write(out / "shift-measures.csv", shift["measures"])
    write(
        out / "shift-tasks.csv",
        (
            {name: value for name, value in (task | task["values"]).items() if name != "values"}
            for task in shift["tasks"]
        ),
    )
    verdict = "".join(f"* {entry['said']}\n  {entry['evidence']}\n" for entry in analysis["verdict"])
    environment = json.loads((study / "environment.json").read_text(encoding="utf-8"))
    hardware = ", ".join(f"{name}: {environment[name]}" for name in ("processor", "num_cores", "python", "started"))
    audits = analysis["audits"]
    passed = f"{sum(bool(audit['good']) for audit in audits)} of {len(audits)} audits passed."
    (out / "verdict.txt").write_text(f"{analysis['title']}\n{hardware}\n{passed}\n\n{verdict}", encoding="utf-8")
    if arguments.figures:
        draw(study, arguments.figures)


if __name__ == "__main__":
    main()
