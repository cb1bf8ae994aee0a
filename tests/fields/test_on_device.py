"""What a device is told once."""

from __future__ import annotations

import pytest
import torch

from pretended import GPU, pretended_gpu
from scifm.fields.on_device import in_a_row, numbers_for


@pytest.mark.parametrize("places", [[], [0], [3], [0, 1, 2], [2, 3], [1, 0], [0, 2], [1, 1]])
def test_a_slice_or_a_list_chooses_the_same(places):
    chosen, values = in_a_row(places), torch.arange(5)
    assert values[chosen].tolist() == values[torch.tensor(places, dtype=torch.long)].tolist()
    assert isinstance(chosen, slice) == (
        places == sorted(set(places)) and (not places or places[-1] - places[0] < len(places))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_come_in_precision_and_on_the_device_and_a_gpu_is_told_once(dtype):
    here = torch.zeros(1, dtype=dtype)
    assert torch.equal(numbers_for((1.0, 0.25), here), torch.tensor([1.0, 0.25], dtype=dtype))
    with torch.inference_mode():  # what an answer asks for first
        assert numbers_for([3.5], here).dtype == dtype
    with pretended_gpu() as gpu:
        there = here.to(GPU)
        told = numbers_for((1.0, 0.25), there)
        assert gpu.has(told)
        assert told.cpu().tolist() == [1.0, 0.25]
        with gpu.watching() as events:
            assert numbers_for([1.0, 0.25], there) is told
        assert events == []
