"""The search of the documentation works where it lies on a disk: no server, nothing fetched from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "# Start\n\nNothing is said here.\n",
    "other.md": "# Other\n\n## Deep inside\n\nAn ornithopter flies here.\n",
}


def small_site(folder: Path) -> Path:
    """Build two pages with the settings of ours, without those that read the source."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    own = {name: settings[name] for name in ("site_name", "use_directory_urls", "theme", "extra")}
    plugins = [plugin for plugin in settings["plugins"] if plugin in ("search", "offline")]
    assert plugins == ["search", "offline"]
    docs = folder / "docs"
    shutil.copytree(ROOT / "docs" / "javascripts", docs / "javascripts")
    for name, text in PAGES.items():
        (docs / name).write_text(text)
    (folder / "mkdocs.yml").write_text(yaml.safe_dump({**own, "plugins": plugins}))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False,
        timeout=200, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_pages_name_no_other_place(tmp_path):
    """The plug-in of the theme would have every page fetch a script."""
    page = (small_site(tmp_path) / "index.html").read_text(encoding="utf-8")
    assert "unpkg" not in page
    assert 'src="javascripts/iframe-worker.js"' in page


@pytest.mark.browser
def test_a_word_is_found(tmp_path, browser_path):
    engine = pytest.importorskip("playwright.sync_api")
    site = small_site(tmp_path)
    asked: list[str] = []
    with engine.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1250, "height": 800})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click("input.md-search__input")
        page.keyboard.type("ornithopter")
        found = page.wait_for_selector(".md-search-result__link")
        assert found is not None
        assert str(found.get_attribute("href")).startswith((site / "other.html").as_uri())
        page.wait_for_function("document.querySelector('.md-search-result__meta').innerText.includes('1 matching')")
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
