"""Quotas of a replay's consumers: what is asked of Kafka's admin client, and which refusals matter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.flink.quota import QuotaError, quota_client, set_quotas
from penstock.settings import InsideSettings, KafkaSettings


class Brokers:
    """A stand-in for the planner's JVM: keeps what an admin client would send, or refuses it."""

    def __init__(self, refusal: str = "") -> None:
        self.client: dict[str, str] = {}
        self.asked: dict[str, dict[str, float | None]] = {}
        self.closed = 0
        self._refusal = refusal

    @property
    def jvm(self) -> Any:
        class Map(dict[str, str]):
            put = setProperty = dict.__setitem__

        class List(list[Any]):
            add = list.append

        def alteration(entity: Map, operations: List) -> tuple[str, dict[str, float | None]]:
            return entity["client-id"], dict(operations)

        def op(key: str, value: float | None) -> tuple[str, float | None]:
            # As py4j does it: a Double or null, and no int.
            assert value is None or isinstance(value, float)
            return key, value

        alteration.Op = op  # type: ignore[attr-defined]
        quota = SimpleNamespace(ClientQuotaAlteration=alteration, ClientQuotaEntity=lambda entity: entity)
        kafka = SimpleNamespace(
            clients=SimpleNamespace(admin=SimpleNamespace(AdminClient=SimpleNamespace(create=self._create))),
            common=SimpleNamespace(quota=quota),
        )
        shaded = SimpleNamespace(shaded=SimpleNamespace(org=SimpleNamespace(apache=SimpleNamespace(kafka=kafka))))
        unit = SimpleNamespace(TimeUnit=SimpleNamespace(SECONDS="s"))
        return SimpleNamespace(
            org=SimpleNamespace(apache=SimpleNamespace(flink=SimpleNamespace(kafka=shaded))),
            java=SimpleNamespace(
                util=SimpleNamespace(Properties=Map, HashMap=Map, ArrayList=List, concurrent=unit),
            ),
        )

    def _create(self, properties: dict[str, str]) -> Any:
        self.client = dict(properties)
        return SimpleNamespace(alterClientQuotas=self._alter, close=self._close)

    def _alter(self, alterations: list[tuple[str, dict[str, float | None]]]) -> Any:
        def get(seconds: int, unit: str) -> None:
            if self._refusal:
                raise RuntimeError(f"java.util.concurrent.ExecutionException: ...errors.{self._refusal}: no")
            self.asked |= dict(alterations)

        return SimpleNamespace(all=lambda: SimpleNamespace(get=get))

    def _close(self) -> None:
        self.closed += 1


def test_the_planner_reaches_the_brokers_as_penstock_does_by_the_modules_of_flinks_connector() -> None:
    plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b";'
    shaded = "org.apache.flink.kafka.shaded." + plain
    inside = InsideSettings(bootstrap="kafka:9092")
    for written in (plain, shaded):
        kafka = KafkaSettings(bootstrap="127.0.0.1:1", client={"sasl.jaas.config": written}, inside=inside)
        assert quota_client(kafka) == {"bootstrap.servers": "127.0.0.1:1", "sasl.jaas.config": shaded}


def test_each_client_id_gets_its_quota_and_none_takes_one_away() -> None:
    brokers = Brokers()
    set_quotas(brokers.jvm, {"bootstrap.servers": "k:1", "sasl.mechanism": "PLAIN"}, {"a-0": 5_000_000, "a-1": None})
    assert brokers.client == {"bootstrap.servers": "k:1", "sasl.mechanism": "PLAIN"}
    assert brokers.asked == {"a-0": {"consumer_byte_rate": 5e6}, "a-1": {"consumer_byte_rate": None}}
    assert brokers.closed == 1


@pytest.mark.parametrize("refusal", ["ClusterAuthorizationException", "UnsupportedVersionException"])
def test_a_cluster_that_takes_no_quotas_refuses_a_limit_but_nothing_that_is_not_asked_for(refusal: str) -> None:
    brokers = Brokers(refusal)
    set_quotas(brokers.jvm, {}, {"a-0": None})
    with pytest.raises(QuotaError, match=refusal):
        set_quotas(brokers.jvm, {}, {"a-0": 1.0, "a-1": None})
    assert brokers.closed == 2


def test_any_other_failure_is_told_also_where_a_quota_is_taken_away() -> None:
    """It may still be there: a replay would be slow, and nobody would know why."""
    with pytest.raises(QuotaError, match="TimeoutException"):
        set_quotas(Brokers("TimeoutException").jvm, {}, {"a-0": None})
