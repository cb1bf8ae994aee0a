"""The page: the numbers are in it, what is missing is said, nothing a user wrote becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scifm.errors import RunError
from scifm.report.page import page

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Balance(HTMLParser):
    """Collects what does not close, and identifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.identifiers += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.identifiers)) == len(parser.identifiers)
    assert not parser.tags & {"script", "iframe", "object"}
    return text


def change_summary(folder: Path, **entries: object) -> None:
    file = folder / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_the_study_page_holds_the_numbers(study_folder):
    written = page(study_folder)
    assert written == study_folder / "report.html"
    text = read(written)
    assert "With 64 downstream samples, fine-tuning reaches a relative L2 error of 0.021, 3.1 times lower" in text
    expected = (
        "0.0121",
        "0.0834",
        "0.0412",
        "0.0213",
        "0.0174",
        "0.187",
        "0.0661",
        "0.0398",
        "0.0287",
        "2,105,000",
        "512",
    )
    assert [number for number in expected if number not in text] == []
    assert "Example Processor 9000" in text
    assert "0123456789abcdef0123456789abcdef01234567" in text
    assert "scifm demo --out runs/demo" in text
    assert "num_modes = 16" in text
    assert "The budgets are equal" in text
    assert "not recorded" not in text
    assert text.count("<img ") == 6
    assert len(text) < 1_500_000


def test_the_page_is_self_contained_and_described(study_folder):
    text = read(page(study_folder))
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert '<html lang="en">' in text
    assert all(len(alt) > 30 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text))
    assert not re.findall(r"<th(?! scope=)[ >]", text)


def test_the_same_folder_gives_the_same_page(study_folder):
    first = page(study_folder).read_bytes()
    assert page(study_folder).read_bytes() == first


def test_what_a_user_wrote_is_text(study_folder):
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    system = {"name": attack, attack: 1}
    change_summary(study_folder, title=attack, description=attack, pretrain_system=system)
    (study_folder / "config.toml").write_text(f"# </pre>{attack}\n")
    (study_folder / "environment.json").write_text(json.dumps({"command": attack, attack: attack}))
    examples = dict(np.load(study_folder / "examples.npz"))
    np.savez(study_folder / "examples.npz", **(examples | {"few_shot_label": np.array(attack)}))
    text = read(page(study_folder))
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_absent_parts_are_said_to_be_absent(study_folder):
    for name in ("examples.npz", "environment.json", "config.toml", "results.parquet"):
        (study_folder / name).unlink()
    shutil.rmtree(study_folder / "runs")
    (study_folder / "summary.json").write_text('{"few_shot": {"64": 0.02}, "zero_shot": null}')
    text = read(page(study_folder))
    for part in (
        "Example fields",
        "Training curves",
        "results.parquet",
        "The two systems",
        "Time by part",
        "The recipe",
    ):
        assert re.search(rf'class="missing">[^<]*{part}[^<]*not recorded', text), part
    assert "so no gain can be stated" in text
    assert re.search(r"In distribution</span><b>not recorded</b>", text)
    assert not re.search(r"<b>0(\.0*)?</b>", text)


def test_an_empty_summary_still_makes_a_page(study_folder):
    for name in ("results.parquet", "examples.npz"):
        (study_folder / name).unlink()
    (study_folder / "summary.json").write_text("{}")
    assert "No error was recorded" in read(page(study_folder))


def test_negative_transfer_stands_in_the_headline(study_folder):
    change_summary(study_folder, few_shot={"64": 0.09}, from_scratch={"64": 0.03})
    (study_folder / "results.parquet").unlink()
    text = read(page(study_folder))
    assert "Negative transfer: with 64 downstream samples" in text
    assert "0.3×" in text


def test_files_that_disagree_are_pointed_out(study_folder):
    assert "disagree" not in page(study_folder).read_text()
    change_summary(study_folder, zero_shot=0.01)
    text = read(page(study_folder))
    assert "The files of this study disagree." in text
    assert "zero-shot: 0.0100 in summary.json, 0.0834 in results.parquet" in text


def test_the_run_page(run_folder, tmp_path):
    text = read(page(run_folder, out=tmp_path / "elsewhere.html"))
    assert not (run_folder / "report.html").exists()
    assert "The run pretrain-0a1b2c3d reaches a relative L2 error of 0.013 (solution), mean over 128 samples:" in text
    assert "vrmse 0.01" in text
    assert text.count("<img ") == 2


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
    table = pq.read_table(study_folder / "results.parquet").to_pylist()
    for row in table:
        if row["kind"] == "few_shot":
            row["num_trials"] += 1
            if row["num_samples"] == 16:
                row.update(learning_rate=0.0, num_steps=0)
                kept = {"event": "kept", "step": 0, "relative_l2": 0.1, "reason": "none better"}
                (study_folder / row["run"] / "metrics.jsonl").write_text(json.dumps(kept) + "\n")
    pq.write_table(pa.Table.from_pylist(table), study_folder / "results.parquet")
    change_summary(study_folder, tried_zero_shot=True)
    text = read(page(study_folder))
    assert "The budgets are equal: optimizer steps: 300 for each model trained, both ways" in text
    assert "it did, for one seed or more, on 16 samples" in text
    assert "(0: the pre-trained weights were kept)" in text
    assert text.count("<img ") == 6


def test_out_may_be_a_folder(run_folder, tmp_path):
    (tmp_path / "pages").mkdir()
    assert page(run_folder, out=tmp_path / "pages") == tmp_path / "pages" / "report.html"


def test_folders_that_are_neither_are_refused(tmp_path, study_folder):
    with pytest.raises(RunError, match="There is no folder"):
        page(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"neither a study .* nor a run"):
        page(tmp_path / "empty")
    (study_folder / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished: it has runs"):
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


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["study", "run"])
def test_the_page_in_a_browser(kind, study_folder, run_folder, browser_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address = page(study_folder if kind == "study" else run_folder).resolve().as_uri()
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
            assert "relative L2 error" in tab.locator("#headline").inner_text()
            sizes = tab.eval_on_selector_all(
                "img", "all => all.map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
            )
            assert len(sizes) == {"study": 6, "run": 2}[kind]
            assert all(complete and wide > 200 and high > 100 for complete, wide, high in sizes)
            inner, scrolled = tab.evaluate("[window.innerWidth, document.documentElement.scrollWidth]")
            assert (inner, scrolled) == (width, width)
            tab.close()
        browser.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {address}
