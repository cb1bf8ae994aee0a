"""What studies, trust and plans found, as plain data: written once, read by the report, the command line and people.

Here live the models (`Finding`, a study's `Analysis`, the `Figure` that goes with a finding) and nothing that computes
or draws: no torch, no plots. Whoever finds something returns one of these; whoever tells it takes one.
"""

from scifm.findings.figure import Axis, Cells, Figure, Note, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.findings.study import Analysis

__all__ = ["Analysis", "Axis", "Cells", "Figure", "Finding", "Note", "Panel", "Rule", "Series"]
