import torch

from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.objectives.contract import ObjectiveContract
from scifm.systems.poisson import Poisson
from scifm_learners import ConvNet, ConvNetConfig, WithDifferences


class TestWithDifferences(ObjectiveContract):
    objective = WithDifferences(weight=0.5)


def test_the_network_answers_and_comes_back_from_disk(tmp_path):
    batch = Poisson().sample(2, Grid.square(12), generator_for(0, "test"))
    operator = ConvNet(Poisson.signature, ConvNetConfig(width=4))
    operator.save_pretrained(tmp_path)
    again = ConvNet.from_pretrained(tmp_path)
    assert torch.equal(again(batch).require_targets(), operator(batch).require_targets())
