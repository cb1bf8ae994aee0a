"""Figures and tables for a paper: files that stand alone, the same ones as on the page."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree

import pytest

from scifm.errors import RunError
from scifm.findings.figure import Axis, Figure, Note, Panel, Rule, Series
from scifm.report.page import page
from scifm.report.paper import draw_sheet, write_paper
from scifm.report.parts import Cell, Page, Table


@pytest.fixture(scope="module")
def parts(kept_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "paper"
    page(kept_study, figures=folder)
    return folder


def test_every_figure_and_table_of_the_page_is_there(kept_study, parts):
    text = (kept_study / "report.html").read_text()
    captions = (parts / "captions.txt").read_text()
    names = {file.stem for file in parts.glob("*.pdf")}
    assert names == {file.stem for file in parts.glob("*.svg")}
    plates = {name for name in names if name.startswith("example-")}  # the page shows them as pictures
    assert {name.replace("example-", "Example ") + "." in text for name in plates} == {True}
    assert {f'id="figure-{name}"' in text for name in names - plates} == {True}
    tables = {file.stem for file in parts.glob("*.csv")}
    assert tables == {file.stem for file in parts.glob("*.tex")}
    assert len(names) > 2
    assert len(tables) > 2
    assert all(f"{name}: " in captions for name in names | tables)


def test_each_stands_alone(parts):
    for file in parts.glob("*.pdf"):
        content = file.read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content, "TrueType inside, and no Type 3"
        assert b"/Type3" not in content
    for file in parts.glob("*.svg"):
        root = ElementTree.fromstring(file.read_text())
        assert not list(root.iter("{http://www.w3.org/2000/svg}text")), "letters are outlines"


def test_the_same_study_gives_the_same_files(kept_study, parts, tmp_path):
    page(kept_study, figures=tmp_path / "again")
    for file in parts.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_tables_say_what_the_page_says_and_latex_takes_them(tmp_path):
    rows = ((Cell("50 % of a_b & more"), Cell("0.12", small="0.1–0.2")), (Cell("ω ≤ 10^2"), Cell("2 × 10⁻⁶")))
    table = Table("errors", "An error.", ("what", "error"), rows)
    write_paper(Page("", {}, {"errors": table}), tmp_path)
    with (tmp_path / "errors.csv").open(newline="") as file:
        found = list(csv.reader(file))
    assert found == [["what", "error"], ["50 % of a_b & more", "0.12 0.1–0.2"], ["ω ≤ 10^2", "2 × 10⁻⁶"]]
    latex = (tmp_path / "errors.tex").read_text()
    assert r"50 \% of a\_b \& more & 0.12 0.1--0.2 \\" in latex
    assert r"$\omega$ $\leq$ 10\textasciicircum{}2 & 2 $\times$ 10$^{-6}$ \\" in latex


def test_what_has_no_place_is_left_out_and_ends_are_kept():
    bent = Series(label="a", x=(1, 2, 3, 4), y=(0.1, None, -1.0, float("inf")), low=(0.05,) * 4, high=(0.2,) * 4)
    upper = Panel(
        x=Axis(label="n"),
        y=Axis(label="error", scale="log", low=1e-3, high=1.0),
        series=(bent,),
        rules=(Rule(at=-1.0), Rule(at=0.5, label="threshold")),
        notes=(Note(at=1, text="4×", good=True),),
        title="10^-3 and $5",
        beneath=Panel(x=Axis(label="n"), y=Axis(label="gain"), series=(Series(x=(1, 2), y=(3, 4)),)),
    )
    lower = Panel(
        x=Axis(label="gain"), y=Axis(label="", categories=("one", "two")), series=(Series(x=(1.0, 2.0), y=(0, 1)),)
    )
    sheet = draw_sheet(Figure(caption="c", panels=(upper,)))
    axes = sheet.subfigs[0].axes
    assert axes[0].get_ylim() == (1e-3, 1.0)
    assert [text.get_text() for text in axes[0].texts] == ["4×"]
    assert len(axes) == 2
    names = draw_sheet(Figure(caption="c", panels=(lower,))).subfigs[0].axes[0].get_yticklabels()
    assert [name.get_text() for name in names] == ["one", "two"]


def test_a_folder_that_cannot_be_written_is_told(study_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        page(study_folder, figures=tmp_path / "file")
