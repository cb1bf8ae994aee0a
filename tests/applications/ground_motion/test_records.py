"""Real records: files that obspy writes, read with their conditions, parted by events; and what is refused of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scifm.applications.ground_motion import RecordsRecipe, make_records
from scifm.applications.ground_motion.making import rate_of
from scifm.applications.ground_motion.records import RecordFiles
from scifm.errors import ConfigError, DataError, StoreError

obspy = pytest.importorskip("obspy", reason="obspy is of the extra seismic")

HEAD = "file,event,magnitude,distance,onset,trace\n"


def written(folder, lines: list[str], **traces) -> RecordFiles:
    """Write traces and a table of them; return how they are read."""
    for name, data in traces.items():
        parts = data if isinstance(data, list) else [data]
        stream = obspy.Stream([obspy.Trace(np.asarray(part), {"sampling_rate": 100.0}) for part in parts])
        stream.write(str(folder / f"{name}.mseed"), format="MSEED")
    (folder / "table.csv").write_text(HEAD + "\n".join(lines) + "\n")
    return RecordFiles(table=str(folder / "table.csv"), num_samples=128, quiet=0.5)


def wave(seed: int = 0, count: int = 600) -> np.ndarray:
    times = np.arange(count) / 100
    return np.sin(2 * np.pi * (3 + seed) * times) * (times > 2) + 5.0


def test_a_record_is_cut_at_its_onset_and_brought_to_one_rate(tmp_path):
    files = written(tmp_path, ["a.mseed,one,3.5,20,2.0,"], a=wave())
    read = files.read()
    assert read.velocity.shape == (1, 128)
    times = np.arange(128) / 50 - 0.5
    inner = (times > 0.2) & (times < 1.9)
    expected = np.sin(2 * np.pi * 3 * (times + 2.0))
    record = read.velocity[0].numpy()
    assert np.abs(record - record[times < -0.2].mean() - expected)[inner].max() < 0.05
    assert np.abs(record[times < -0.2] - record[0]).max() < 0.05
    assert read.conditions["magnitude"].tolist() == [3.5]
    assert set(read.files) == set(read.contents) == {"table.csv", "a.mseed"}


def test_a_store_of_them_parts_events(tmp_path):
    traces = {f"r{k}": wave(k) for k in range(12)}
    lines = [f"r{k}.mseed,event {k // 2},{2 + k // 2 * 0.1},{10 + k},2.0," for k in range(12)]
    recipe = RecordsRecipe(files=written(tmp_path, lines, **traces))
    store = make_records(recipe, tmp_path / "store")
    assert sum(store.splits.values()) == 12
    events = {name: set(store.split(name).load().coefficient("event").tolist()) for name in store.splits}
    assert sum(map(len, events.values())) == 6, "no event is in two splits"
    assert rate_of(store.grid) == pytest.approx(50.0)
    train = store.split("train").load()
    distance = train.coefficient("distance")
    assert torch.equal(((distance - 10) // 2), train.coefficient("event")), "conditions stay with their records"
    assert make_records(recipe, tmp_path / "store").content == store.content
    (tmp_path / "table.csv").write_text((tmp_path / "table.csv").read_text().replace("2.1", "2.2"))
    with pytest.raises(StoreError, match="made"):
        make_records(recipe, tmp_path / "store")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.mseed,one,,20,2.0,", "nothing stands under 'magnitude'"),
        ("a.mseed,one,strong,20,2.0,", "'strong' under 'magnitude' is no number"),
        ("a.mseed,one,3,-1,2.0,", "distances are positive"),
        ("a.mseed,one,3,20,5.0,", "too short"),
        ("a.mseed,one,3,20,0.1,", "too short"),
        ("a.mseed,one,3,20,2.0,4", "holds 1 traces; trace 4 is asked for"),
        ("b.mseed,one,3,20,2.0,", "holds 2 traces"),
    ],
)
def test_records_that_cannot_be_used_are_refused(tmp_path, line, said):
    files = written(tmp_path, [line], a=wave(), b=[wave(), wave(1)])
    with pytest.raises(DataError, match=said):
        files.read()


def test_files_that_cannot_be_read_are_refused(tmp_path):
    files = written(tmp_path, ["none.mseed,one,3,20,2.0,"])
    with pytest.raises(StoreError, match="cannot be read by obspy"):
        files.read()
    with pytest.raises(StoreError, match="cannot be read"):
        RecordFiles(table=str(tmp_path / "nowhere.csv")).read()
    with pytest.raises(DataError, match="names no record"):
        written(tmp_path, []).read()


def test_too_few_events_are_refused(tmp_path):
    lines = [f"a.mseed,event {k},3,20,2.0," for k in range(3)]
    with pytest.raises(ConfigError, match="four are the least"):
        make_records(RecordsRecipe(files=written(tmp_path, lines, a=wave())), tmp_path / "store")
