"""What Airflow's provider manager reads (entry point `apache_airflow_provider`).  Imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

PACKAGE = "penstock.airflow"
OPERATORS = ("druid", "flink", "kafka", "replay", "upgrade", "upkeep")
HOOKS = {"penstock": "PenstockHook"}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, by Airflow's `provider_info.schema.json`."""
    name = "Penstock"
    return {
        "package-name": "penstock",
        "name": name,
        "description": "Kappa pipelines whose numbers can be proved and repaired: Kafka, Flink and Druid.",
        "integrations": [{"integration-name": name, "external-doc-url": "docs/airflow.md", "tags": ["service"]}],
        "operators": [
            {"integration-name": name, "python-modules": [f"{PACKAGE}.operators.{part}" for part in OPERATORS]}
        ],
        "hooks": [{"integration-name": name, "python-modules": [f"{PACKAGE}.hooks"]}],
        "triggers": [{"integration-name": name, "python-modules": [f"{PACKAGE}.triggers"]}],
        "connection-types": [
            {"connection-type": kind, "hook-class-name": f"{PACKAGE}.hooks.{hook}", "hook-name": name}
            for kind, hook in HOOKS.items()
        ],
        "extra-links": [f"{PACKAGE}.links.{link}" for link in ("FlinkLink", "DruidLink")],
        "asset-uris": [{"schemes": ["druid"], "handler": f"{PACKAGE}.assets.sanitize"}],
    }
