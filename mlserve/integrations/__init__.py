"""Doors to the outside: one module for each optional package, imported by its own name.

::

    from mlserve.integrations.prometheus import MonitorCollector

Importing this package imports none of them. A door whose package is missing says which extra installs it.
"""

__all__: list[str] = []
