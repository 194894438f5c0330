"""The operators, by what they act on.  Each calls one function of the core, which may be run again at any time."""

from penstock.airflow.operators.druid import DruidIndexOperator, DruidSupervisorOperator
from penstock.airflow.operators.flink import FlinkStartOperator, FlinkStopOperator
from penstock.airflow.operators.kafka import KafkaTopicsOperator
from penstock.airflow.operators.replay import RepairOperator, ReplayBeginOperator, ReplayStepOperator
from penstock.airflow.operators.upgrade import FlinkUpgradeOperator
from penstock.airflow.operators.upkeep import HealthOperator, MaintenanceOperator, VerifyOperator, WatchOperator

__all__ = [
    "DruidIndexOperator",
    "DruidSupervisorOperator",
    "FlinkStartOperator",
    "FlinkStopOperator",
    "FlinkUpgradeOperator",
    "HealthOperator",
    "KafkaTopicsOperator",
    "MaintenanceOperator",
    "RepairOperator",
    "ReplayBeginOperator",
    "ReplayStepOperator",
    "VerifyOperator",
    "WatchOperator",
]
