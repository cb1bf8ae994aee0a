"""One self-contained HTML page about whatever a folder holds: readable offline, printable, whole without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scifm.errors import RunError
from scifm.report.account_page import render_account
from scifm.report.paper import write_paper
from scifm.report.parts import Page
from scifm.report.plan_page import render_plan
from scifm.report.records import holds_model
from scifm.report.run_page import render_run
from scifm.report.study_page import render_study
from scifm.runs import write_atomically
from scifm.shipped import shipped_model

__all__ = ["PAGES", "page"]

PAGES: Mapping[tuple[str, ...], Callable[[Path], Page]] = {
    ("account.json",): render_account,
    ("analysis.json",): render_study,
    ("plan.json",): render_plan,
    ("config.json", "model.safetensors"): render_run,  # a model alone
    ("config.toml",): render_run,
}
"""Which files mark a folder, and what makes its page of it; the first mark that fits is meant."""


def page(path: str | Path, *, out: str | Path | None = None, figures: str | Path | None = None) -> Path:
    """Write the report of a folder: of a study, a plan, a run or a model.

    Args:
        path: a folder with ``analysis.json`` (a study), ``plan.json`` (a plan), ``config.toml`` (a run) or the files of
            a model; ``model`` inside a run is that run; or ``scifm/name``, a model that comes with the package.
        out: the file to write, or an existing folder to write ``report.html`` into; by default ``path/report.html``,
            for a model alone, in whose folder nothing is added, a file called like it where you are.
        figures: a folder for a paper: every figure of the page as PDF and SVG, every table as CSV and LaTeX.

    Returns:
        The file written.

    Raises:
        RunError: if `path` is none of these, a file in it cannot be read, or the page cannot be written.
    """
    folder = shipped_model(path) or Path(path)
    if holds_model(folder) and (folder.absolute().parent / "config.toml").is_file():
        folder = folder.parent if folder.name == "model" else folder.absolute().parent
    beside = Path(f"{folder.resolve().name}.html") if holds_model(folder) else folder / "report.html"
    target = Path(out) if out is not None else beside
    if target.is_dir():
        target = target / "report.html"
    render = next((make for marks, make in PAGES.items() if all((folder / name).is_file() for name in marks)), None)
    unfinished = (folder / "runs").is_dir() and render is render_run and not holds_model(folder)
    if render is None or unfinished:
        raise _refusal(folder)
    made = render(folder)
    write_atomically(target, made.text.encode())
    if figures is not None:
        write_paper(made, figures)
    return target


def _refusal(folder: Path) -> RunError:
    if not folder.is_dir():
        return RunError(
            f"There is no folder '{folder}'. Give the folder that 'scifm demo' or 'scifm pretrain' printed."
        )
    if (folder / "summary.json").is_file():
        return RunError(
            f"'{folder}' is a demo or transfer study of an earlier version, whose page is no longer made: run 'scifm "
            "demo' or 'scifm study' again into another folder. What is in its runs/ can be reported on as before."
        )
    if (folder / "runs").is_dir():
        return RunError(
            f"The study or plan '{folder}' is not finished: it has runs and neither analysis.json nor plan.json. Run "
            "the command that made it again to complete it, or report on one of the folders in its runs/."
        )
    marks = ", ".join(" with ".join(names) for names in PAGES)
    return RunError(
        f"'{folder}' is neither a study nor a plan nor a run nor a model: none of the files is there that mark one "
        f"({marks}). Give the folder that 'scifm demo' or 'scifm pretrain' printed."
    )
