from __future__ import annotations

from scifm.training.checkpoint import Position


def spikes(losses: list[float], position: Position | None = None) -> dict[int, float]:
    """Return the size of each spike by the step it is told at."""
    position = position or Position()
    return {step: size for step, loss in enumerate(losses) if (size := position.note_loss(loss)) is not None}


def test_a_spike_is_told_once_with_its_size():
    steady = [1.0, 1.2, 0.8] * 10
    assert spikes(steady) == {}
    assert spikes([*steady, 9.0, 7.0, 1.0, 1.0, 5.0, *steady]) == {30: 9.0, 34: 5.0}


def test_early_losses_and_a_fall_are_no_spikes():
    assert spikes([1.0] * 10 + [50.0] + [1.0] * 8) == {}
    assert spikes([100.0 * 0.9**step for step in range(200)]) == {}


def test_a_new_level_stops_being_told():
    position = Position()
    assert spikes([1.0] * 50 + [10.0] * 100, position) == {50: 10.0}
    assert not position.spiking
    assert len(position.recent_losses) == 50


def test_stopped_anywhere_the_same_spikes_are_told():
    losses = [1.0, 1.5] * 15 + [8.0, 8.0, 1.0, 9.0, 1.0]
    whole = spikes(losses)
    assert len(whole) == 2
    for stop in range(len(losses)):
        position = Position()
        first = spikes(losses[:stop], position)
        resumed = Position(recent_losses=list(position.recent_losses), spiking=position.spiking)
        assert {**first, **{stop + step: size for step, size in spikes(losses[stop:], resumed).items()}} == whole


def test_losses_of_zero_are_no_trouble():
    assert spikes([0.0] * 30 + [1.0, 0.0]) == {}
