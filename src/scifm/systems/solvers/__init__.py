"""Solvers: numerical methods shared by the systems."""
