"""The page of a transfer study: whole, honest about what is missing, safe, and alive in a browser."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pages import read
from scifm.errors import RunError
from scifm.report import study_page
from scifm.report.page import page
from scifm.report.study_figures import STUDY_FIGURES
from scifm.report.study_tables import STUDY_TABLES

_PLACE = Path(__file__).with_name("transfer_study.py")
_SPEC = importlib.util.spec_from_file_location("transfer_study", _PLACE)
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)

ANALYSIS = made.analysis()


@pytest.fixture
def entries() -> dict[str, Any]:
    return copy.deepcopy(ANALYSIS)


def written(folder: Path, entries: dict[str, Any]) -> str:
    return read(page(made.write_study(folder, entries)))


def numbers_that_are_none(text: str) -> list[str]:
    return re.findall(r'="(?:nan|inf|None)"|[MLVH, (]nan[,)L" ]|>None<|>nan<', text)


def test_the_page_holds_every_part(tmp_path, entries):
    text = written(tmp_path / "study", entries)
    for heading in (
        "Is pre-training worth it, and how far does it carry?",
        "Does a larger model help?",
        "Does a measure of the shift foretell the error?",
        "One mixture for all, or a specialist each?",
        "Scaling laws",
        "Audits of the study itself",
    ):
        assert f">{heading}</h2>" in text, heading
    assert (
        "3 systems · 12 tasks · 4 sizes · 3 seeds · 256 test samples a task · intervals of 90\N{NO-BREAK SPACE}%"
        in text
    )
    assert [text.count(f'id="figure-{n}"') for n in ("error", "sources", "size", "shift", "mixing", "scaling")] == [
        1
    ] * 6
    assert [f"Figure {n}." in text for n in range(1, 8)] == [True] * 6 + [False]
    assert text.count('<svg viewBox="0 0 960') == 3 + 3 + 3 + 1
    assert "Every run (1,620 rows)" in text
    assert "runs/finetune-poisson-poisson-5-10-medium-64-seed2" in text
    assert "almost the same order (rank correlation 0.93) over 12 tasks" in text
    assert "seeds = [0, 1, 2]" in text
    assert not numbers_that_are_none(text)
    assert len(text) < 2_500_000


def test_every_figure_and_table_has_its_place():
    """One without a place would be made, and take a number, that nobody sees."""
    template = Path(study_page.__file__).with_name("study.html").read_text(encoding="utf-8")
    assert [name for name in STUDY_FIGURES if f"{{{{ figure(figures.{name}) }}}}" not in template] == []
    assert [
        name for name in STUDY_TABLES if not re.search(rf"(?:table|folded)\((?:\"[^\"]*\", )?{name}\b", template)
    ] == []


def test_a_verdict_is_marked_by_sign_and_word(tmp_path, entries):
    text = written(tmp_path / "study", entries)
    for css, sign, word, said in (
        ("good", "✓", "In favor: ", "Pre-training is worth at least 64"),
        ("bad", "✗", "Against: ", "On the strongest Helmholtz shift"),
        ("open", "–", "Neutral: ", "A mixture costs about a fifth"),
    ):
        assert re.search(rf'<li class="{css}"><span class="sign"[^>]*>{sign}</span>.*?{word}</span><b>{said}', text)


def test_it_asks_nothing_of_the_network(tmp_path, entries):
    text = written(tmp_path / "study", entries)
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,"]
    assert "url(" not in text
    assert "@import" not in text
    assert re.search(r"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-[^']+'", text)


def test_the_same_study_gives_the_same_page(tmp_path, entries):
    folder = made.write_study(tmp_path / "study", entries)
    assert page(folder).read_bytes() == page(folder).read_bytes()


def renamed(tree: Any, old: str, new: str) -> Any:
    if isinstance(tree, dict):
        return {key: renamed(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [renamed(value, old, new) for value in tree]
    return tree.replace(old, new) if isinstance(tree, str) else tree


ATTACK = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def test_what_a_user_wrote_is_text(tmp_path, entries):
    hostile = renamed(renamed(entries, "Poisson", ATTACK), "medium", ATTACK)
    for key in ("anisotropy", "runs/", "spectra", "power law"):
        hostile = renamed(hostile, key, ATTACK)
    hostile["title"] = hostile["audits"][0]["name"] = hostile["scaling"]["axes"][0]["law"]["text"] = ATTACK + "^-2"
    hostile["crossovers"][0]["told"] = hostile["verdict"][0]["evidence"] = ATTACK
    folder = made.write_study(tmp_path / "study", hostile, environment={"command": ATTACK})
    (folder / "config.toml").write_text(f"# </pre>{ATTACK}\n")
    table = pq.read_table(folder / "table.parquet").to_pylist()
    table[0]["run"] = table[0]["source"] = ATTACK
    pq.write_table(made.pa.Table.from_pylist(table), folder / "table.parquet")
    text = read(page(folder))
    assert text.count("<script") == 1
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def without(entries: dict[str, Any], *kinds: str) -> dict[str, Any]:
    return entries | {"curves": [curve for curve in entries["curves"] if curve["kind"] not in kinds]}


def test_parts_a_study_does_not_have_are_absent(tmp_path, entries):
    small = entries | {"mixing": [], "shift": {"measures": [], "tasks": []}, "sizes": [entries["sizes"][2]]}
    del small["scaling"]
    for part in ("curves", "gains", "needs", "crossovers"):
        small[part] = [entry for entry in small[part] if entry["size"] == "medium"]
    text = written(tmp_path / "study", small)
    assert re.findall(r'id="figure-(\w+)"', text) == ["error", "sources"]
    assert "Figure 3." not in text
    for heading in ("Does a larger model help?", "Does a measure of", "One mixture for all", "Scaling laws"):
        assert f">{heading}" not in text


def test_without_training_from_scratch_no_gain_is_claimed(tmp_path, entries):
    poor = without(entries, "from_scratch") | {"gains": [], "needs": [], "crossovers": []}
    text = written(tmp_path / "study", poor)
    assert "No model was trained from scratch" in text
    assert "Gains: none could be computed" in text
    assert 'data-series="from-scratch"' not in text
    assert 'data-series="fine-tuned"' in text


def test_without_any_curve_the_page_says_so(tmp_path, entries):
    empty = {key: entries[key] for key in ("targets", "sources", "sizes")} | {"curves": [], "title": None}
    text = written(tmp_path / "bare", empty)
    assert '<h1 class="large" id="headline">bare</h1>' in text
    for part in ("A verdict", "Errors on downstream samples", "Audits"):
        assert f'class="missing">{part}: not recorded' in text
    assert '<svg viewBox="0 0 960' not in text


def test_missing_numbers_are_never_drawn_as_zero(tmp_path, entries):
    for curve in entries["curves"]:
        for point in curve["points"]:
            point["low"] = point["high"] = None
    holes = [
        c for c in entries["curves"] if c["size"] == "medium" and c["kind"] == "few_shot" and c["source"] == "poisson"
    ]
    holes[0]["points"][2] |= {"median": None, "values": [0.01, None, 0.02]}
    holes[1]["points"][1] |= {"median": float("inf")}
    for gain in entries["gains"]:
        gain |= {"gain": None, "low": None, "high": None, "negative": None}
    for ratio in entries["mixing"]:
        ratio |= {"low": None, "high": None}
    entries["level"] = None
    text = written(tmp_path / "study", entries)
    assert "2 points have no finite error; a line breaks there." in text
    assert "no interval over seeds was recorded" in text
    assert 'class="band"' not in text
    assert not numbers_that_are_none(text)
    figure = text[text.index('id="figure-error"') : text.index("</figure>")]
    first_panel = figure[
        figure.index('class="panel"') : figure.index('class="panel"', figure.index('class="panel"') + 9)
    ]
    tuned = first_panel[first_panel.rindex('data-series="fine-tuned"') :]
    assert tuned.count('class="point"') == 4
    assert tuned.count('class="line"') == 2  # broken at 64


def test_a_folder_without_its_table_still_tells(tmp_path, entries):
    folder = made.write_study(tmp_path / "study", entries)
    for name in ("table.parquet", "environment.json", "config.toml"):
        (folder / name).unlink()
    text = read(page(folder))
    assert "The table of single runs (table.parquet): not recorded" in text
    assert "The recipe (config.toml): not recorded" in text


def damage(entries: dict[str, Any], change: Any) -> str:
    if isinstance(change, str):
        return change
    change(entries)
    return json.dumps(entries)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('{"targets": [', "not valid JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "'targets' is not as expected"),
        (lambda e: e["curves"][3]["points"][0].update(median="much"), r"'curves\.3\.points\.0\.median'"),
        (lambda e: e["curves"][0].update(kind="guess"), r"'curves\.0\.kind'"),
        (lambda e: e["gains"][0].update(target="poison"), "'gains' names the target 'poison'"),
        (lambda e: e["mixing"][0].update(mixture="soup"), "'mixing' names the source 'soup'"),
        (lambda e: e["sizes"][0].update(num_params=0), r"'sizes\.0\.num_params'"),
    ],
)  # fmt: skip
def test_a_damaged_analysis_is_one_clear_line(tmp_path, entries, change, told):
    folder = made.write_study(tmp_path / "study", entries)
    (folder / "analysis.json").write_text(damage(entries, change))
    with pytest.raises(RunError, match=told) as caught:
        page(folder)
    assert "analysis.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def test_a_damaged_table_is_one_clear_line(tmp_path, entries):
    folder = made.write_study(tmp_path / "study", entries)
    whole = (folder / "table.parquet").read_bytes()
    (folder / "table.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"table\.parquet.*not a whole Parquet file"):
        page(folder)
    pq.write_table(made.pa.table({"kind": ["few_shot"], "run": ["a"]}), folder / "table.parquet")
    with pytest.raises(RunError, match="no column source, target, size, num_samples, seed, relative_l2"):
        page(folder)


# --- in a real browser ------------------------------------------------------------------------------------------------

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def tab(tmp_path, entries, browser_path):
    """Return a function that opens the page in a window; at the end nothing was complained of, nothing asked for."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address = page(made.write_study(tmp_path / "study", entries)).resolve().as_uri()
    requests, complaints = [], []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=browser_path, args=_ARGUMENTS)

        def opened(width: int = 1280, **settings: Any):
            new = browser.new_page(viewport={"width": width, "height": 900}, **settings)
            new.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
            new.on("request", lambda request: requests.append(request.url))
            new.on("console", lambda message: complaints.append(message.text))
            new.on("pageerror", lambda error: complaints.append(str(error)))
            new.goto(address)
            return new

        yield opened
        browser.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {address}


@pytest.mark.browser
def test_a_point_tells_itself_under_pointer_and_keyboard(tab):
    window = tab()
    point = window.locator('#figure-error [data-series="fine-tuned"] .point').nth(2)
    assert not window.locator("#tip").is_visible()
    point.scroll_into_view_if_needed()
    point.locator(".hit").hover(force=True)
    told = window.locator("#tip").inner_text()
    assert told.startswith(
        "fine-tuned on 64 samples\ntask: Poisson, anisotropy 5 to 10\nsource: Poisson (96,000 samples)"
    )
    assert "runs/finetune-poisson-poisson-5-10-medium-64-seed2" in told
    assert re.search(r"seeds: 0\.\d+, 0\.\d+, 0\.\d+", told)
    window.keyboard.press("Escape")
    assert not window.locator("#tip").is_visible()
    point.focus()
    assert window.locator("#tip").inner_text() == told
    window.keyboard.press("ArrowRight")
    assert window.locator("#tip").inner_text().startswith("fine-tuned on 256 samples")
    stops = window.eval_on_selector_all(
        ".panel", "all => all.map(p => p.querySelectorAll('.point[tabindex=\"0\"]').length)"
    )
    assert len(stops) > 12
    assert set(stops) == {1}


@pytest.mark.browser
def test_a_key_of_the_legend_switches_its_series(tab):
    window = tab()
    figure = window.locator("#figure-error")
    key = figure.locator('button.key[data-series="from-scratch"]')
    series = figure.locator('g[data-series="from-scratch"]')
    elsewhere = window.locator('#figure-size g[data-series="from-scratch"]').first
    assert series.count() == 12
    assert series.first.is_visible()
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert not any(series.nth(i).is_visible() for i in range(12))
    assert figure.locator('g[data-series="fine-tuned"]').first.is_visible()
    assert elsewhere.is_visible()
    key.focus()
    window.keyboard.press("Enter")
    assert series.first.is_visible()


@pytest.mark.browser
def test_it_fits_every_window_and_no_text_leaves_its_drawing(tab):
    for width, scheme in ((400, "light"), (1280, "light"), (1280, "dark")):
        window = tab(width, color_scheme=scheme)
        inner, scrolled = window.evaluate("[window.innerWidth, document.documentElement.scrollWidth]")
        assert (inner, scrolled) == (width, width)
        outside = window.evaluate(
            """() => [...document.querySelectorAll('svg.drawing')].flatMap(svg => {
                const box = svg.getBoundingClientRect();
                return [...svg.querySelectorAll('text')].filter(text => {
                    const t = text.getBoundingClientRect();
                    return t.left < box.left - 1 || t.right > box.right + 1 ||
                        t.top < box.top - 1 || t.bottom > box.bottom + 1;
                }).map(text => text.textContent);
            })"""
        )
        assert outside == []
        window.close()


@pytest.mark.browser
def test_no_two_texts_of_a_drawing_overlap(tab):
    overlaps = tab().evaluate(
        """() => [...document.querySelectorAll('svg.drawing')].flatMap(svg => {
            const all = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            return all.flatMap(([a, p], i) => all.slice(i + 1).filter(([b, q]) =>
                Math.min(p.right, q.right) - Math.max(p.left, q.left) > 0.5 &&
                Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3).map(([b]) => [a, b]));
        })"""
    )
    assert overlaps == []


@pytest.mark.browser
def test_without_scripts_all_is_there(tab):
    window = tab(java_script_enabled=False)
    assert window.locator("#figure-error .key").first.is_visible()
    assert window.locator("#figure-error .point title").count() > 100
    assert window.locator("button").count() == 0
    assert not window.locator("#tip").is_visible()
