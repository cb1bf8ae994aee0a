"""Early warning of earthquakes: how strongly each place will shake, told from the first seconds at a few stations.

`events` and `making` make stores of wavefields whose sources nobody tells; any operator that forecasts them can be
asked for warnings by `warning`. Training is that of any other operator.
"""

from scifm.applications.early_warning.events import Events
from scifm.applications.early_warning.forecasting import WarnRecipe
from scifm.applications.early_warning.making import EventRecipe, make_events
from scifm.applications.early_warning.warning import warn

__all__ = ["EventRecipe", "Events", "WarnRecipe", "make_events", "warn"]
