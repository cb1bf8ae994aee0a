"""The page of an account: all that was found is on it, maps with their marks; damaged ones are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pages import read
from scifm.applications.accounts import keep_account
from scifm.errors import RunError
from scifm.findings.account import Account, Chapter, KeyFigure, MapOf, Maps, Places, Rows
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.report.page import page
from scifm.runs import Run

LINE = Figure(
    caption="What was recorded, and what was foretold.",
    panels=(Panel(x=Axis(label="time"), y=Axis(label="pressure"), series=(Series(x=(0, 1), y=(2.0, 3.0)),)),),
)
MAPS = Maps(
    caption="Largest values, true and foretold.",
    rows=(
        (MapOf(array="true", title="true"), MapOf(array="told", title="foretold", note="from 3 stations")),
        (None, MapOf(array="off", title="foretold − true", kind="error")),
    ),
    extent=(1.0, 2.0),
    places=(Places(label="stations", x=(0.5, 1.0, 1.5), y=(0.2, 0.5, 0.9)),),
)
ACCOUNT = Account(
    application="early warning",
    question="How hard will it shake?",
    findings=(
        Finding(said="The largest value is 12 % off.", evidence="Median of 20 events."),
        Finding(said="It comes late.", good=False, advice="Give it more stations.", figure=LINE),
    ),
    key_figures=(KeyFigure(label="Warning", value="1.8 s", note="median"),),
    chapters=(
        Chapter(
            title="Where it shakes",
            text="Of the first event.",
            maps=(MAPS,),
            figures=(LINE,),
            tables=(Rows(name="stations", caption="By station.", headers=("station", "off"), rows=(("A<b>", "0.1"),)),),
        ),
    ),
    definitions=("The largest value is that over all frames.",),
    limits=("One seed.",),
)


def fields() -> dict[str, np.ndarray]:
    true = np.linspace(0, 1, 8 * 16).reshape(8, 16)
    return {"true": true, "told": 1.1 * true, "off": 0.1 * true, "not a map": np.arange(3.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = Run.claim(tmp_path / "account", {"kind": "warn", "num_stations": 3})
    with work.locked():
        keep_account(work, ACCOUNT, fields())
    return work.path


def test_all_that_was_found_is_on_the_page(folder):
    text = read(page(folder))
    for told in (
        "account: How hard will it shake?", 'id="headline">The largest value is 12 % off.', "Median of 20 events.",
        "Against: </span><b>It comes late.", "What to do: Give it more stations.", "Warning</span><b>1.8 s</b>",
        "Where it shakes", "Of the first event.", "A&lt;b&gt;", "foretold − true", "from 3 stations", "stations</text>",
        "The largest value is that over all frames.", "<li>One seed.</li>", "num_stations = 3",
    ):  # fmt: skip
        assert told in text, told
    assert re.findall(r"Figure (\d)\.", text) == ["1", "2", "3"]
    assert Run.open(folder).is_complete


def test_maps_have_their_marks_and_share_their_colors(folder):
    text = read(page(folder))
    drawing = re.search(r'<svg[^>]*aria-label="Largest values.*?</svg>', text, re.DOTALL)[0]
    assert drawing.count("<image ") == 3 + 2  # maps, and a bar of colors for each row
    assert drawing.count('class="place"') == 3 * 3 + 1
    marked = [tuple(map(float, place)) for place in re.findall(r"translate\(([\d.]+) ([\d.]+)\)", drawing)]
    first = re.search(r'<image [^>]*x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawing)
    x, y, wide, high = map(float, first.groups())
    assert marked[0] == pytest.approx((x + 0.25 * wide, y + 0.8 * high), abs=0.02)
    assert high == pytest.approx(wide / 2, abs=0.02)
    numbers = [float(number.replace("−", "-")) for number in re.findall(r'class="tick">([−\d.]+)<', drawing)]
    assert max(numbers) <= 1.1
    assert min(numbers) == pytest.approx(-0.1, abs=0.05)  # errors: symmetric about zero


def test_an_account_goes_into_a_paper(folder, tmp_path):
    page(folder, figures=tmp_path / "paper")
    written = {file.name for file in (tmp_path / "paper").iterdir()}
    assert {"finding-0.pdf", "1-1.pdf", "maps-1.pdf", "maps-1.svg", "stations.csv", "captions.txt"} <= written


@pytest.mark.parametrize("damage", ["lost", "no array", "cut", "not a plane"])
def test_damaged_accounts_end_in_a_sentence(folder, damage):
    file = folder / "account.npz"
    if damage == "lost":
        file.unlink()
    elif damage == "no array":
        np.savez(file, true=fields()["true"])
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        np.savez(file, **fields() | {"told": np.zeros(4)})
    with pytest.raises(RunError, match=r"account\.npz.*Give the command|account\.npz.*again"):
        page(folder)


def test_what_is_no_account_is_said(folder):
    tree = json.loads((folder / "account.json").read_text())
    (folder / "account.json").write_text(json.dumps(tree | {"findings": []}))
    with pytest.raises(RunError, match="'findings' is not as expected"):
        page(folder)


def test_a_map_of_what_is_no_plane_is_a_mistake_of_its_maker(folder):
    with pytest.raises(ValueError, match="'told', which is a plane"):
        keep_account(Run.open(folder), ACCOUNT, fields() | {"told": np.zeros(3)})
    with pytest.raises(ValidationError, match="as many along y"):
        Places(label="stations", x=(1.0,), y=())
    with pytest.raises(ValidationError, match="alike in length"):
        Maps(caption="", rows=((None,), (None, None)), extent=(1, 1))
    with pytest.raises(ValidationError, match="a cell a column"):
        Rows(name="a", caption="", headers=("x",), rows=(("1", "2"),))
