"""Hooks: the services of the command line, with addresses from the environment's settings or an Airflow connection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from penstock.load import named
from penstock.settings import Settings, load_settings, overridden

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.services.protocols import DruidService, FlinkService, KafkaService, Services


class PenstockHook(BaseHook):
    """Settings, services and pipelines of one project and environment.

    `project` is the folder of penstock.toml (default: the working directory or above), `environment` one of its
    environments.  A connection, where one is named, changes what the file says: its extra holds tables as in the file,
    `{"kafka": {"bootstrap": ...}, "flink": ..., "druid": ...}`; `${login}` and `${password}` in it stand for the
    connection's own.  Raises DeclarationError for what is wrong in either.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "penstock_default"
    conn_type = "penstock"
    hook_name = "Penstock"

    def __init__(
        self, conn_id: str | None = None, *, project: str | None = None, environment: str | None = None
    ) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.project = project
        self.environment = environment

    @cached_property
    def settings(self) -> Settings:
        settings = load_settings(Path(self.project) if self.project else None, env=self.environment)
        if self.conn_id is None:
            return settings
        connection = self.get_connection(self.conn_id)
        secrets = {"login": connection.login or "", "password": connection.password or ""}
        return overridden(settings, connection.extra_dejson, secrets, place=f"connection {self.conn_id}")

    @cached_property
    def services(self) -> Services:
        from penstock.services.protocols import connect

        return connect(self.settings)

    def pipelines(self, names: Sequence[str] = ()) -> list[Pipeline]:
        """Return the declared pipelines, or those named."""
        return named(self.settings.jobs, names)

    def pipeline(self, name: str) -> Pipeline:
        return self.pipelines([name])[0]

    def get_conn(self) -> Any:
        return self.services

    def test_connection(self) -> tuple[bool, str]:
        """Ask each service; for the button of Airflow's connection form."""
        from penstock.health import services_down

        down = services_down(self.services)
        return not down, "; ".join(item.cause for item in down) or "Kafka, Flink and Druid answer"

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        example = '{"kafka": {"bootstrap": "broker:9092"}, "flink": {"rest": "http://..."}, "druid": {"broker": "..."}}'
        return {"hidden_fields": ["schema", "port", "host"], "relabeling": {}, "placeholders": {"extra": example}}


class KafkaHook(PenstockHook):
    """Topics, offsets and records."""

    def get_conn(self) -> KafkaService:
        return self.services.kafka


class FlinkHook(PenstockHook):
    """Jobs of the session cluster."""

    def get_conn(self) -> FlinkService:
        return self.services.flink


class DruidHook(PenstockHook):
    """Supervisors, tasks and figures."""

    def get_conn(self) -> DruidService:
        return self.services.druid
