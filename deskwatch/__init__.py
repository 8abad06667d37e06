"""deskwatch: a Prometheus exporter and Alertmanager webhook receiver for trading desks.

The public API is what a hook's author imports: ``from deskwatch import Run, hook``.
"""

from deskwatch.hook import Run, hook

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "hook"]
