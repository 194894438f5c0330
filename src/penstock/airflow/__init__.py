"""Penstock for Airflow 3.3: operators, hooks, triggers, links and assets over the very functions of the command line.

hooks       settings and services, from an Airflow connection or the environment's settings
base        what every operator has: a deadline, a place given up while it waits, errors in Airflow's terms
operators   one for each thing to be done
triggers    look at a service until what is waited for is over
declared    the pipelines as plain data, for files of DAGs: no network, no service
"""

from __future__ import annotations

from penstock.airflow.info import get_provider_info

__all__ = ["get_provider_info"]
