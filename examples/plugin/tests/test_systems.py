from scifm.systems.contract import SystemContract
from scifm_plate import ThinPlate
from scifm_reaction import CubicReaction


class TestThinPlate(SystemContract):
    system = ThinPlate()


class TestCubicReaction(SystemContract):
    system = CubicReaction()
