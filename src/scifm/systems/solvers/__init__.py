"""Solvers: numerical methods shared by the systems; imported from their files."""

__all__ = ()
