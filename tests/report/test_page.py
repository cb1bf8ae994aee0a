"""The page: the numbers are in it, what is missing is said, nothing a user wrote becomes markup."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pages import read
from scifm.errors import RunError
from scifm.report.page import page


def change(folder: Path, **entries: object) -> None:
    """Change entries of an analysis."""
    file = folder / "analysis.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_the_study_page_holds_the_numbers(study_folder):
    written = page(study_folder)
    assert written == study_folder / "report.html"
    text = read(written)
    assert "With 64 downstream samples, fine-tuning reaches a relative L2 error of 0.021, 3.1 times lower" in text
    expected = "0.0121 0.0834 0.0412 0.0213 0.0174 0.187 0.0661 0.0398 0.0287 2,105,000 512 4.5× 3.1× 2.3×"
    assert [number for number in expected.split(" ") if number not in text] == []
    for told in (
        "Example Processor 9000",
        "0123456789abcdef0123456789abcdef01234567",
        "scifm demo --out runs/demo",
        "num_modes = 16",
        "The budgets are equal: optimizer steps: 300 for each model, both ways",
        "0.001, 0.003, 0.01 for",
        "Whole study: 8\N{NO-BREAK SPACE}min\N{NO-BREAK SPACE}32\N{NO-BREAK SPACE}s.",
        "With no downstream sample (zero-shot) the error is 0.083; on the system it was pre-trained on it is 0.012.",
        'knobs.anisotropy</th><td class="wordy changed">1, 5</td><td class="wordy changed">5, 10</td>',
        "5\N{NO-BREAK SPACE}min\N{NO-BREAK SPACE}01\N{NO-BREAK SPACE}s (62 %)",
        "Every run (16 rows)",
    ):
        assert told in text, told
    assert re.findall(r'id="figure-(\w+)"', text) == ["error", "pretraining", "adaptations"]
    assert text.count("<image ") == 3 * 11
    assert "not recorded" not in text
    assert len(text) < 1_500_000


def test_the_page_is_self_contained_and_described(study_folder):
    text = read(page(study_folder))
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert '<html lang="en">' in text
    labels = re.findall(r'role="group" aria-label="([^"]*)" class="drawing"', text)
    assert len(labels) == 3 + 4  # fields, and the blocks of three figures
    assert all(len(label) > 15 for label in labels)
    assert not re.findall(r"<th(?! scope=)[ >]", text)


def test_the_same_folder_gives_the_same_page(study_folder):
    first = page(study_folder).read_bytes()
    assert page(study_folder).read_bytes() == first


def test_what_a_user_wrote_is_text(study_folder):
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    change(study_folder, title=attack)
    recipe = (study_folder / "config.toml").read_text()
    (study_folder / "config.toml").write_text(f"# </pre>{attack}\n{recipe.replace('anisotropy', json.dumps(attack))}")
    (study_folder / "environment.json").write_text(json.dumps({"command": attack, attack: attack}))
    examples = dict(np.load(study_folder / "examples.npz"))
    np.savez(study_folder / "examples.npz", **(examples | {"few_shot_label": np.array(attack)}))
    text = read(page(study_folder))
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_absent_parts_are_absent_or_said_to_be(study_folder):
    for name in ("examples.npz", "environment.json", "config.toml", "table.parquet"):
        (study_folder / name).unlink()
    shutil.rmtree(study_folder / "runs")
    change(study_folder, curves=[], gains=[], verdict=[], audits=[], seconds=None, seconds_by_part={})
    text = read(page(study_folder))
    for part in ("A verdict", "Errors on downstream samples", "table.parquet", "The recipe", "Audits"):
        assert re.search(rf'class="missing">[^<]*{part}[^<]*not recorded', text), part
    assert "No error was recorded, so there is nothing to conclude." in text
    assert re.search(r"In distribution</span><b>not recorded</b>", text)
    assert not re.search(r"<b>0(\.0*)?</b>", text)
    assert "Whether fine-tuning and training from scratch had the same budget is not recorded." in text
    assert not {"Fields side by side", ">Training</h2>"} & set(re.findall(r"<h2[^>]*>[^<]*</h2>", text))


def test_negative_transfer_stands_in_the_headline(study_folder):
    tree = json.loads((study_folder / "analysis.json").read_text())
    for curve in tree["curves"]:
        for point in curve["points"] if curve["kind"] == "few_shot" else ():
            point["median"] = 0.09
    for gain in tree["gains"]:
        gain.update(gain=0.7, low=0.6, high=0.8, negative=True)
    (study_folder / "analysis.json").write_text(json.dumps(tree))
    text = read(page(study_folder))
    assert "Negative transfer: with 64 downstream samples" in text
    assert "0.70×" in text


def test_runs_in_the_table_that_are_gone_leave_no_curves(study_folder):
    shutil.rmtree(study_folder / "runs")
    assert re.findall(r'id="figure-(\w+)"', read(page(study_folder))) == ["error"]


def test_the_run_page(run_folder, tmp_path):
    text = read(page(run_folder, out=tmp_path / "elsewhere.html"))
    assert not (run_folder / "report.html").exists()
    assert "The run pretrain-0a1b2c3d reaches a relative L2 error of 0.013 (solution), mean over 128 samples:" in text
    assert "vrmse 0.01" in text
    assert re.findall(r'id="figure-(\w+)"', text) == ["scores", "training"]
    assert "<img" not in text


def test_findings_stand_on_the_page_of_a_run(run_folder):
    panel = {
        "x": {"label": "distance"},
        "y": {"label": "influence"},
        "series": [{"label": "u", "x": [0, 1], "y": [1, 2]}],
    }
    finding = {"name": "receptive field", "said": "It sees <all>.", "good": False, "statistic": 0.98, "threshold": 0.5}
    figure = {"caption": "Influence by distance.", "panels": [panel]}
    (run_folder / "findings.json").write_text(json.dumps([finding | {"figure": figure}, {"said": "Neither."}]))
    text = read(page(run_folder))
    assert "It sees &lt;all&gt;." in text
    assert "Measured: 0.980; compared with 0.500." in text
    assert "Figure 2. Influence by distance." in text
    assert re.findall(r'<li class="(\w+)"><span class="sign"', text) == ["bad", "open"]


def test_a_run_that_was_questioned_has_a_report_card(run_folder):
    assert "Report card" not in read(page(run_folder))
    asked = [
        {"name": "one_thing", "said": "So it is.", "good": True, "statistic": 0.2, "threshold": 0.5, "seconds": 1.5},
        {"name": "another", "said": "It is not.", "good": False, "statistic": 2, "advice": "Do <this>.", "seconds": 80},
        {"name": "third", "said": "Hard to say.", "statistic": 7},
        {"name": "fourth", "said": "Not asked."},
    ]
    (run_folder / "findings.json").write_text(json.dumps(asked))
    text = read(page(run_folder))
    card = text[text.index('id="card"') : text.index('id="scores"')]
    lights = re.findall(r'class="light (\w+)"><span aria-hidden="true">.</span> ([\w ]+)<', card)
    assert lights == [("good", "green"), ("bad", "red"), ("amber", "amber"), ("open", "not asked")]
    assert "one thing" in card
    assert "0.200; compared with 0.500." in card
    assert "Do &lt;this&gt;." in card
    assert "1.5 s" in card.replace("\N{NO-BREAK SPACE}", " ")
    assert "1 min 20 s" in card.replace("\N{NO-BREAK SPACE}", " ")


def test_a_run_that_failed_or_was_not_evaluated_says_so(run_folder):
    (run_folder / "scores.parquet").unlink()
    (run_folder / "STATUS").write_text("failed: the loss is not finite\n")
    text = read(page(run_folder))
    assert "its status: failed: the loss is not finite." in text
    assert "it holds no test scores" in text
    assert "<b>failed</b>" in text


def test_a_new_run_without_events_makes_a_page(run_folder):
    for name in ("metrics.jsonl", "scores.parquet", "environment.json", "STATUS"):
        (run_folder / name).unlink()
    assert "has recorded no error yet" in read(page(run_folder))


def test_numbers_out_of_all_measure_leave_a_page(run_folder):
    lines = [{"event": "train", "step": s, "loss": x} for s, x in ((1, 0.1), (2, math.nan), (3, 1e308), (4, 5e-324))]
    lines += [{"event": "train", "step": s, "loss": 0.2} for s in (math.nan, math.inf, 10**400, -(10**9), True)]
    lines += [{"event": "valid", "step": 3, "relative_l2": x} for x in (10**400, -1, 0, "much", None, math.inf)]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = read(page(run_folder))
    assert not re.findall(r'="(?:nan|inf)|[MLVH,(]nan', text)


def test_a_run_that_kept_the_pre_trained_weights_says_so(run_folder):
    (run_folder / "metrics.jsonl").write_text('{"event": "kept", "step": 0, "relative_l2": 0.1, "reason": "none"}\n')
    (run_folder / "outcome.json").write_text('{"learning_rate": 0.0, "kept": "the pre-trained weights: none better"}')
    text = read(page(run_folder))
    assert "Nothing was trained. Fine-tuning kept the pre-trained weights: none better." in text
    assert "reaches a relative L2 error of 0.013" in text
    assert "not recorded" not in text
    (run_folder / "scores.parquet").unlink()
    assert "kept the pre-trained weights; it holds no test scores." in read(page(run_folder))
    (run_folder / "outcome.json").write_text('{"kept": 3}')
    with pytest.raises(RunError, match=r"outcome\.json': 'kept' should be a text and is 3"):
        page(run_folder)


def test_a_study_that_kept_them_somewhere_makes_a_page(study_folder):
    table = pq.read_table(study_folder / "table.parquet").to_pylist()
    for row in table:
        if row["kind"] == "few_shot":
            row["num_trials"] += 1
            if row["num_samples"] == 16:
                row.update(learning_rate=0.0, num_steps=0)
                kept = {"event": "kept", "step": 0, "relative_l2": 0.1, "reason": "none better"}
                (study_folder / row["run"] / "metrics.jsonl").write_text(json.dumps(kept) + "\n")
    pq.write_table(pa.Table.from_pylist(table), study_folder / "table.parquet")
    recipe = (study_folder / "config.toml").read_text()
    (study_folder / "config.toml").write_text(recipe.replace("try_zero_shot = false", "try_zero_shot = true"))
    text = read(page(study_folder))
    assert "The budgets are equal: optimizer steps: 300 for each model trained, both ways" in text
    assert "it did, for one seed or more, on 16 samples" in text
    assert "A rate of 0: it kept the pre-trained" in text
    assert text.count("<image ") == 3 * 11


def test_the_plan_page(plan_folder):
    text = read(page(plan_folder))
    for told in (
        "How many samples does a mean relative L2 error of 0.03 need?",
        "Collect about 80 more samples (80 % interval 25 to 240).",
        "Pre-training is worth it.",
        "41 to 260",
        "700 to no end in sight",
        "Every training (18 rows)",
        "runs/few_shot-3-0",
        "runs/pretrain-0a1b2c3d",
        "num_repeats = 3",
    ):
        assert told in text, told
    assert re.findall(r'id="figure-(\w+)"', text) == ["curves"]
    assert "nan" not in text


def test_the_plan_of_an_earlier_version_has_a_page(plan_folder):
    tree = json.loads((plan_folder / "plan.json").read_text())
    del tree["findings"], tree["figure"]
    (plan_folder / "plan.json").write_text(json.dumps(tree | {"recommendation": "Collect some <more>."}))
    text = read(page(plan_folder))
    assert "Collect some &lt;more&gt;." in text
    assert "The figure of the learning curves" in text, "it says that there is none"


def test_a_plan_that_needed_no_training_has_a_page(plan_folder):
    tree = json.loads((plan_folder / "plan.json").read_text())
    nothing = {"num_trained_samples": None, "current_error": None, "need": None, "effective_draws": None}
    tree |= {
        "points": [],
        "figure": None,
        "few_shot": nothing,
        "from_scratch": nothing,
        "verdict": "reached",
        "findings": [],
    }
    (plan_folder / "plan.json").write_text(json.dumps(tree))
    text = read(page(plan_folder))
    assert "the pre-trained operator reaches the error wanted as it is" in text
    assert "figure-" not in text


@pytest.mark.parametrize("wrong", ["{", "[]", "{}", '{"target_error": "small"}'])
def test_a_damaged_plan_is_one_clear_line(plan_folder, wrong):
    (plan_folder / "plan.json").write_text(wrong)
    with pytest.raises(RunError, match=r"plan\.json") as caught:
        page(plan_folder)
    assert "\n" not in str(caught.value)


def test_out_may_be_a_folder(run_folder, tmp_path):
    (tmp_path / "pages").mkdir()
    assert page(run_folder, out=tmp_path / "pages") == tmp_path / "pages" / "report.html"


def test_folders_that_are_neither_are_refused(tmp_path, study_folder):
    with pytest.raises(RunError, match="There is no folder"):
        page(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"neither a study nor a plan nor a run nor a model"):
        page(tmp_path / "empty")
    (study_folder / "analysis.json").unlink()
    with pytest.raises(RunError, match="is not finished: it has runs"):
        page(study_folder)
    (study_folder / "summary.json").write_text("{}")
    with pytest.raises(RunError, match=r"demo or transfer study of an earlier version.*run 'scifm demo'.* again"):
        page(study_folder)


def test_a_page_that_cannot_be_written_leaves_the_old_one(study_folder):
    page(study_folder)
    blocked = study_folder / "config.toml" / "report.html"  # a file stands where a folder should
    with pytest.raises(RunError, match="Cannot write"):
        page(study_folder, out=blocked)
    assert (study_folder / "report.html").stat().st_size > 0


# --- in a real browser ------------------------------------------------------------------------------------------------

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


TROUBLE = """() => [...document.querySelectorAll('svg.drawing')].flatMap(svg => {
    const box = svg.getBoundingClientRect();
    const all = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const outside = all.filter(([, t]) => t.left < box.left - 1 || t.right > box.right + 1 ||
        t.top < box.top - 1 || t.bottom > box.bottom + 1).map(([a]) => a);
    return outside.concat(all.flatMap(([a, p], i) => all.slice(i + 1).filter(([b, q]) =>
        Math.min(p.right, q.right) - Math.max(p.left, q.left) > 0.5 &&
        Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3).map(([b]) => a + ' | ' + b)));
})"""
"""Texts of drawings that leave their drawing, or lie on one another."""


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["study", "run", "plan"])
def test_the_page_in_a_browser(kind, study_folder, run_folder, plan_folder, browser_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address = page({"study": study_folder, "run": run_folder, "plan": plan_folder}[kind]).resolve().as_uri()
    requests, complaints = [], []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=browser_path, args=_ARGUMENTS)
        for width, scheme in ((360, "light"), (1280, "light"), (1280, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
            tab.on("request", lambda request: requests.append(request.url))
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.goto(address)
            assert tab.locator("#headline").is_visible()
            words = {"study": "Poisson", "run": "relative L2 error", "plan": "more samples"}[kind]
            assert words in tab.locator("#headline").inner_text()
            maps = tab.eval_on_selector_all("image", "all => all.map(i => i.getBoundingClientRect().width)")
            assert len(maps) == (33 if kind == "study" else 0)
            inner, scrolled = tab.evaluate("[window.innerWidth, document.documentElement.scrollWidth]")
            assert (inner, scrolled) == (width, width)
            assert tab.evaluate(TROUBLE) == []
            tab.close()
        browser.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {address}
