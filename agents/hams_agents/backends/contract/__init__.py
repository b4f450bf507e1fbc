"""The contract of backends as checks: ``python -m hams_agents.backends.contract mypackage:Backend``.

:mod:`~hams_agents.backends.contract.checks` holds the checks, :mod:`~hams_agents.backends.contract.samples` the
networks that they load, and :mod:`~hams_agents.backends.contract.kit` runs them.
"""
