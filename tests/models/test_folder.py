"""The hub by a stand-in that keeps repositories in folders; the real one needs the internet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

import tiny
from scifm.errors import ConfigError, RunError
from scifm.models.calibration import CALIBRATION
from scifm.models.folder import FILES
from scifm.models.operator import Operator


class Hub:
    """Keeps what is uploaded under root/repository/revision, and every call."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []

    def api(self, *, token: str | None, library_name: str) -> Hub:
        self.calls.append(("api", token, library_name))
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.calls.append(("create_repo", repo_id, private))
        return f"https://hub.example/{repo_id}"

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        assert exist_ok
        self.calls.append(("create_branch", repo_id, branch))

    def upload_folder(self, *, repo_id, folder_path, revision, allow_patterns, commit_message) -> None:
        self.calls.append(("upload_folder", repo_id, revision, sorted(os.listdir(folder_path)), commit_message))
        target = self.root / repo_id / (revision or "main")
        target.mkdir(parents=True)
        for name in allow_patterns:
            if (Path(folder_path) / name).exists():  # a pattern that nothing fits is no fault
                shutil.copy(Path(folder_path) / name, target / name)

    def snapshot(self, repo_id: str, *, revision: str | None, allow_patterns: list[str], library_name: str) -> str:
        self.calls.append(("snapshot", repo_id, revision, tuple(allow_patterns)))
        found = self.root / repo_id / (revision or "main")
        if not found.is_dir():
            raise FileNotFoundError(f"404 Client Error.\n\nRepository Not Found for url: {repo_id}")
        return str(found)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub.api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot)
    return hub


def test_what_is_pushed_comes_back(hub):
    operator = tiny.operator()
    address = operator.push_to_hub("someone/poisson", private=True, token="secret", card={"license": "mit"})
    assert address == "https://hub.example/someone/poisson"
    assert [call[0] for call in hub.calls] == ["api", "create_repo", "upload_folder"]
    assert hub.calls[0][1] == "secret"
    assert hub.calls[1] == ("create_repo", "someone/poisson", True)
    assert hub.calls[2][3] == sorted(FILES)
    again = Operator.from_pretrained("someone/poisson")
    assert hub.calls[-1] == ("snapshot", "someone/poisson", None, (*FILES, CALIBRATION))
    assert torch.equal(again(tiny.batch(2)).require_targets(), operator(tiny.batch(2)).require_targets())


def test_a_branch_is_made_and_a_revision_is_asked_for(hub):
    tiny.operator(seed=0).push_to_hub("someone/poisson")
    tiny.operator(seed=1).push_to_hub("someone/poisson", branch="second")
    assert ("create_branch", "someone/poisson", "second") in hub.calls
    first, second = (Operator.from_pretrained("someone/poisson", revision=r) for r in (None, "second"))
    assert not torch.equal(first.lift.weight, second.lift.weight)
    assert hub.calls[-1][2] == "second"


def test_a_folder_wins_and_has_no_revision(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.operator().save_pretrained("some/model")
    Operator.from_pretrained("some/model")
    assert hub.calls == []
    with pytest.raises(ConfigError, match="a folder has no revision 'v1'"):
        Operator.from_pretrained("some/model", revision="v1")


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c", "a b", "poison", Path("someone/poisson")])
def test_what_is_neither_a_folder_nor_an_id_is_not_looked_up(hub, path):
    with pytest.raises(RunError, match="no folder"):
        Operator.from_pretrained(path)
    assert hub.calls == []


def test_an_unknown_id_is_one_line(hub):
    with pytest.raises(RunError, match=r"'someone/nothing' .* cannot be fetched .*Repository Not Found") as caught:
        Operator.from_pretrained("someone/nothing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES[:3])
def test_a_repository_that_lacks_a_file_is_told(hub, name):
    tiny.operator().push_to_hub("someone/poisson")
    (hub.root / "someone" / "poisson" / "main" / name).unlink()
    with pytest.raises(RunError, match=f"{name} is missing"):
        Operator.from_pretrained("someone/poisson")


def test_a_refusal_of_the_hub_is_one_line(hub, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("403 Forbidden\nYou may not write here")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(RunError, match=r"cannot be uploaded to 'someone/poisson' .*403 Forbidden You may") as caught:
        tiny.operator().push_to_hub("someone/poisson")
    assert "\n" not in str(caught.value)


def test_without_a_network_it_is_told_by_the_real_client(monkeypatch, tmp_path):
    """The real client, sent to a port where nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")

    def offline(*args: object, **settings: object) -> str:
        return download(*args, **settings, endpoint="http://127.0.0.1:9", cache_dir=tmp_path)

    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(RunError, match="cannot be fetched from the hub") as caught:
        Operator.from_pretrained("someone/poisson")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(
        huggingface_hub, "HfApi", lambda token, library_name: api(endpoint="http://127.0.0.1:9", token="x")
    )
    with pytest.raises(RunError, match="cannot be uploaded"):
        tiny.operator().push_to_hub("someone/poisson")


api = huggingface_hub.HfApi
