from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from scifm.errors import ConfigError, RunError, StopRequested
from scifm.runs import Run, describe_environment, require_space, write_atomically, write_json

HOLDER = """
import sys, time
from pathlib import Path
from scifm.runs import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.prepare(tmp_path / "runs", "toy", {"a": 1})


def disk_is_full(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_and_replaced(tmp_path):
    file = tmp_path / "deep" / "file"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert leftovers(file.parent) == []


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, where):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", disk_is_full)
    else:
        monkeypatch.setattr(Path, "replace", disk_is_full)
    with pytest.raises(RunError, match=r"Cannot write .*file': No space left on device.*untouched"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_file_in_the_way_of_the_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        write_atomically(tmp_path / "file" / "x", b"")


def test_a_signal_in_the_middle_of_a_write_leaves_no_part(tmp_path, monkeypatch):
    def stop(descriptor: int) -> None:
        raise StopRequested("SIGTERM")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(StopRequested):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_before_writing(tmp_path):
    require_space(tmp_path / "not" / "there", 1000)
    with pytest.raises(RunError, match=r"is full: .* MB are needed, .* are free"):
        require_space(tmp_path / "not" / "there", 10**18)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_is_claimed_by_one_study(tmp_path):
    run = Run.claim(tmp_path / "study", {"b": 2, "a": [1]})
    assert run.config == {"b": 2, "a": [1]}
    assert Run.claim(tmp_path / "study", {"b": 2, "a": [1]}) == run
    with pytest.raises(RunError, match="holds a study with another recipe"):
        Run.claim(tmp_path / "study", {"b": 3, "a": [1]})
    assert run.config["b"] == 2
    with pytest.raises(RunError, match=r"holds a study\. Choose"):
        Run.claim(tmp_path / "study", {"kind": "plan", "b": 3, "a": [1]})


def test_one_configuration_has_one_folder(tmp_path):
    first = Run.prepare(tmp_path, "toy", {"a": 1, "b": {"c": 2}})
    again = Run.prepare(tmp_path, "toy", {"b": {"c": 2}, "a": 1})
    other = Run.prepare(tmp_path, "toy", {"a": 1, "b": {"c": 3}})
    assert first.path == again.path != other.path
    assert first.path.name.startswith("toy-")
    assert first.config == {"a": 1, "b": {"c": 2}}
    assert first.status == "new"
    assert not first.is_complete
    assert {"python", "versions", "processor", "command"} <= set(first.read_json("environment.json"))
    assert "torch" in describe_environment()["versions"]


def test_the_parent_is_found_again_after_both_moved(tmp_path):
    parent = Run.prepare(tmp_path / "runs", "old", {})
    child = Run.prepare(tmp_path / "runs", "new", {}, parent=parent.path)
    assert child.parent == parent.path.resolve()
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = Run.open(tmp_path / "moved" / child.path.name)
    assert moved.parent == (tmp_path / "moved" / parent.path.name).resolve()
    assert Run.open(tmp_path / "moved" / parent.path.name).parent is None


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        Run.open(tmp_path)


def test_a_damaged_config_is_a_clear_error(run):
    (run.path / "config.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="not valid TOML"):
        _ = run.config


@pytest.mark.parametrize("content", [None, "{"])
def test_damaged_json_is_a_clear_error(run, content):
    if content:
        (run.path / "x.json").write_text(content)
    with pytest.raises(RunError, match=r"x\.json' cannot be read"):
        run.read_json("x.json")


def test_an_unfinished_run_says_so(run):
    run.set_status("running")
    with pytest.raises(RunError, match=r"not complete \(status: running\)"):
        run.require_complete()
    run.set_status("complete")
    run.require_complete()


# --- the log ----------------------------------------------------------------------------------------------------------


def test_events_come_back_and_a_cut_line_is_left_out(run):
    assert run.metrics() == []
    run.log(event="train", step=1, loss=0.5)
    run.log(event="train", step=2, loss=0.25)
    file = run.path / "metrics.jsonl"
    for cut in (1, 5, 20):
        whole = file.read_bytes()
        file.write_bytes(whole[:-cut])
        assert run.metrics() == [{"event": "train", "step": 1, "loss": 0.5}], cut
        file.write_bytes(whole)
    assert len(run.metrics()) == 2


def test_rewind_drops_later_events_and_a_cut_line(run):
    for step in range(1, 6):
        run.log(event="train", step=step)
    with (run.path / "metrics.jsonl").open("a") as handle:
        handle.write('{"event": "tra')
    run.rewind(3)
    assert [event["step"] for event in run.metrics()] == [1, 2, 3]
    run.log(event="train", step=4)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_a_rewind_to_the_beginning_drops_everything(run):
    run.log(event="train", step=1)
    run.log(event="note")
    run.rewind(0)
    assert run.metrics() == []


def test_a_damaged_line_is_a_clear_error(run):
    run.log(event="train", step=1)
    with (run.path / "metrics.jsonl").open("a") as handle:
        handle.write('{"event": tr}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl' cannot be read: it is damaged"):
        run.metrics()


def test_the_log_is_forced_to_the_disk(run, monkeypatch):
    run.log(event="train", step=1)
    forced = []
    monkeypatch.setattr(os, "fsync", forced.append)
    run.flush_log()
    assert len(forced) == 1
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(RunError, match="No space left"):
        run.flush_log()


def test_a_log_that_cannot_be_written_is_a_clear_error(run):
    (run.path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match="Cannot write"):
        run.log(event="train", step=1)


# --- the lock ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def holder(run):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(run.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_dies_by_kill(run, holder):
    for _ in range(2):  # to be refused twice changes nothing
        with (
            pytest.raises(RunError, match=rf"in use by another process \(process {holder.pid} on .* since "),
            run.locked(),
        ):
            raise AssertionError("two processes hold one folder")
    assert run.status == "new", "who is refused leaves no trace"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with pytest.warns(UserWarning, match=f"left by process {holder.pid} on .* killed or crashed"), run.locked():
        assert f"process {os.getpid()} on" in (run.path / "LOCK").read_text()


def test_the_lock_goes_when_the_work_ends(run):
    with run.locked():
        pass
    with run.locked():
        pass


def test_status_tells_how_the_work_ended(run):
    with pytest.raises(ValueError, match="two"), run.locked():
        raise ValueError("two\nlines")
    assert run.status == "failed: two lines"
    with pytest.raises(KeyboardInterrupt), run.locked():
        raise KeyboardInterrupt
    assert run.status == "interrupted: run the same command again to resume"
    with pytest.raises(StopRequested), run.locked():
        raise StopRequested("SIGTERM")
    assert run.status == "interrupted: SIGTERM; run the same command again to resume"


def noted_and_killed(run: Run) -> None:
    run.note_time()
    raise SystemExit


def test_wall_time_adds_up_over_sittings(run, monkeypatch):
    clock = iter((100.0, 103.0, 107.0, 200.0, 205.0, 300.0, 301.5))
    wall = iter(range(1000, 0, -100))  # one that is set back all the time
    times = SimpleNamespace(time=lambda: float(next(wall)), monotonic=lambda: next(clock))
    monkeypatch.setattr("scifm.runs.time", times)
    with run.locked():  # 100 to 107
        run.note_time()
        assert run.seconds == 3
    with pytest.raises(ValueError, match="no"), run.locked():  # 200 to 205, whatever ended it
        raise ValueError("no")
    assert run.seconds == 12
    with pytest.raises(SystemExit), run.locked():  # a kill: what was noted last counts
        noted_and_killed(run)
    assert run.seconds == 13.5
    run.set_status("complete")
    with run.locked():  # nothing is done to a run that is complete: nobody looks at the clock
        run.note_time()
    assert run.seconds == 13.5


def test_a_damaged_record_of_time_is_told(run):
    (run.path / "sittings.json").write_text('[{"began": 1}]')
    with pytest.raises(RunError, match=r"sittings.json' is damaged"):
        _ = run.seconds


def test_a_failure_that_cannot_be_noted_does_not_hide_itself(run, monkeypatch):
    def fails() -> None:
        monkeypatch.setattr(os, "fsync", disk_is_full)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"), run.locked():
        fails()


def test_a_full_disk_is_told_when_taking_the_lock(run, monkeypatch):
    """The owner's name is written into the lock; where nothing can be written that is the user's disk, not a defect."""
    monkeypatch.setattr(os, "write", disk_is_full)
    with pytest.raises(RunError, match="No space left"), run.locked():
        raise AssertionError("not reached")


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path):
    with pytest.raises(RunError, match="Cannot write"), Run(tmp_path / "nowhere").locked():
        raise AssertionError("not reached")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b"])
def test_damaged_small_files_are_told(content, tmp_path):
    run = Run.prepare(tmp_path, "damaged", {"a": 1})
    (run.path / "parent").write_bytes(content)
    with pytest.raises(RunError, match=r"parent' (tells no path|cannot be read)"):
        _ = run.parent
    (run.path / "STATUS").write_bytes(b"\xff")
    with pytest.raises(RunError, match="STATUS' cannot be read: it is damaged"):
        _ = run.status
    for text in ("[" * 100_000, "1" * 5000):
        (run.path / "environment.json").write_text(text)
        with pytest.raises(RunError, match="cannot be read"):
            run.read_json("environment.json")
