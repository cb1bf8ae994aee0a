from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.seeds import DrawingFrom, generator_for, lent_to_torch


def numbers(*arguments):
    return torch.rand(8, generator=generator_for(*arguments))


def test_same_name_same_numbers():
    assert torch.equal(numbers(3, "train", 1), numbers(3, "train", 1))


def test_streams_differ_by_seed_name_order_and_type():
    names = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", "1"), (0, 1, "a"), (0, "a1"), (0, "a", "")]
    drawn = {tuple(numbers(*name).tolist()) for name in names}
    assert len(drawn) == len(names)


def test_numbers_are_pinned():
    # The rule is part of every stored result: changing it must be a decision.
    assert generator_for(0, "train", 1).initial_seed() == 7587977964279228812


def test_same_numbers_in_another_process():
    code = "from scifm.fields.seeds import generator_for; print(generator_for(7, 'x', 2).initial_seed())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == generator_for(7, "x", 2).initial_seed()


@pytest.mark.parametrize("arguments", [(-1,), (2**63,), (1.5,), (True,), (0, 1.5), (0, None), (0, True)])
def test_bad_seeds_and_names_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"got"):
        generator_for(*arguments)


def drawn_by_torch() -> list[torch.Tensor]:
    """Draw in the ways constructors of layers do."""
    layer, like = torch.nn.Linear(5, 4), torch.empty(20, dtype=torch.float64)
    return [
        layer.weight.detach(),
        layer.bias.detach(),
        torch.randn(3, 2),
        torch.rand(5),
        like.normal_(),
        torch.randperm(9),
    ]


def test_drawing_from_a_generator_is_drawing_from_the_global_one_in_its_state():
    torch.manual_seed(7)
    expected, state = drawn_by_torch(), torch.get_rng_state()
    torch.manual_seed(8)
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(7)
    with DrawingFrom(generator):
        found = drawn_by_torch()
    assert all(map(torch.equal, found, expected))
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_drawing_from_a_generator_leaves_meta_tensors_and_other_generators_alone():
    generator, other = torch.Generator().manual_seed(7), torch.Generator().manual_seed(9)
    state = generator.get_state()
    with DrawingFrom(generator):
        with torch.device("meta"):
            assert torch.nn.Linear(5, 4).weight.is_meta
            assert torch.randn(3).is_meta
        found = torch.rand(4, generator=other)
    assert torch.equal(found, torch.rand(4, generator=torch.Generator().manual_seed(9)))
    assert torch.equal(generator.get_state(), state)


def test_drawing_from_a_generator_is_of_one_thread():
    """Another thread sets and draws from the global generator all the time."""
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            torch.manual_seed(1)
            torch.rand(3)

    def draw() -> torch.Tensor:
        with DrawingFrom(torch.Generator().manual_seed(7)):
            return torch.cat([torch.nn.Linear(3, 3).weight.detach() for _ in range(20)])

    alone = draw()
    other = threading.Thread(target=disturb)
    other.start()
    try:
        assert all(torch.equal(draw(), alone) for _ in range(50))
    finally:
        over.set()
        other.join()


def test_a_generator_lent_to_torch_goes_on_and_the_global_one_does_not():
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    with lent_to_torch([generator]):
        first = torch.rand(3)
    with lent_to_torch([generator]):
        second = torch.rand(3)
    with pytest.raises(ValueError, match="by the way"), lent_to_torch([generator]):
        raise ValueError("by the way")
    assert torch.equal(torch.cat([first, second]), torch.rand(6, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(torch.get_rng_state(), before)


def test_lending_waits_for_another_thread():
    inside, over, order = threading.Event(), threading.Event(), []

    def hold() -> None:
        with lent_to_torch([torch.Generator()]):
            inside.set()
            over.wait(10)
            order.append("first")

    def want() -> None:
        with lent_to_torch([torch.Generator()]):
            order.append("second")

    threads = [threading.Thread(target=hold), threading.Thread(target=want)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert order == []
    over.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
