"""The parts networks are made of."""

__all__ = ()
