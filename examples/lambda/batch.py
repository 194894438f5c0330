"""The batch layer: archive the log, count every day before a cut-off anew, put the result into Druid.

    python examples/lambda/batch.py --until 2013-03-01

Run it when the speed layer has passed the cut-off; then move the cut-off of serving.sql to the same day.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from string import Template

import duckdb
import httpx
from confluent_kafka import Consumer, KafkaError, TopicPartition

HERE = Path(__file__).parent
TOPIC = "flights.departed.v1"
#: What Druid must give of the new rows before they are served for sure.
CHECK = "SELECT count(*), sum(_rows), sum(delayed), sum(delay_min_sum) FROM carrier_daily_batch"


def archive(bootstrap: str, file: Path) -> int:
    """Write the log from its start to its end as JSON lines, and return how many there are."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "lambda-batch",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    left = set(consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions)
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in left])
    count = 0
    with file.open("wb") as lines:
        while left:
            for message in consumer.consume(10_000, timeout=1):
                error = message.error()
                if error is None:
                    lines.write((message.value() or b"") + b"\n")
                    count += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise SystemExit(f"error: {TOPIC}: {error}")
    consumer.close()
    return count


def compute(lines: Path, cut_off: int, file: Path) -> tuple[int, list[int]]:
    """Run carrier_daily.sql over the archive; return the first day (epoch ms), and what CHECK gives of its rows."""
    columns = "{departed_at: 'BIGINT', carrier: 'VARCHAR', dest: 'VARCHAR', delay_min: 'BIGINT', distance_mi: 'BIGINT'}"
    database = duckdb.connect()
    database.execute(
        f"CREATE VIEW departures AS SELECT * FROM read_ndjson('{lines}', columns = {columns}, ignore_errors = true)"
    )
    query = (HERE / "carrier_daily.sql").read_text(encoding="utf-8")
    database.execute(f"CREATE TABLE carrier_daily_batch AS {query}", {"cut_off": cut_off})
    database.execute(f"COPY carrier_daily_batch TO '{file}' (FORMAT json)")
    ((first,),) = database.execute("SELECT min(window_start) FROM carrier_daily_batch").fetchall()
    if first is None:
        raise SystemExit(f"error: {TOPIC} holds nothing before the cut-off")
    return first, [int(number or 0) for number in database.execute(CHECK).fetchall()[0]]


def ingest(overlord: str, broker: str, expected: list[int], **values: str) -> None:
    """Replace the batch datasource by the file, and wait until Druid serves it."""
    spec = json.loads(Template((HERE / "ingest.json").read_text(encoding="utf-8")).substitute(values))
    with httpx.Client(trust_env=False, timeout=60) as client:

        def state(task: str) -> str:
            answer = client.get(f"{overlord}/druid/indexer/v1/task/{task}/status").raise_for_status()
            return str(answer.json()["status"]["statusCode"])

        def served() -> list[int]:
            answer = client.post(f"{broker}/druid/v2/sql", json={"query": CHECK, "resultFormat": "array"})
            return [] if answer.status_code == 400 else answer.raise_for_status().json()[0]  # 400: not there yet

        task = client.post(f"{overlord}/druid/indexer/v1/task", json=spec).raise_for_status().json()["task"]
        while (now := state(task)) == "RUNNING":
            time.sleep(0.5)
        if now != "SUCCESS":
            raise SystemExit(f"error: Druid's task {task}: {now}")
        while served() != expected:
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", required=True, help="the cut-off: a day (UTC), exclusive")
    parser.add_argument("--kafka", default="127.0.0.1:19092")
    parser.add_argument("--overlord", default="http://127.0.0.1:19090")
    parser.add_argument("--broker", default="http://127.0.0.1:19082")
    parser.add_argument("--files", type=Path, default=Path("/tmp/lambda"), help="where Druid can read, too")
    options = parser.parse_args()
    options.files.mkdir(parents=True, exist_ok=True)
    until = datetime.fromisoformat(options.until).replace(tzinfo=UTC)
    lines, days = options.files / "departures.json", options.files / "carrier_daily.json"
    began = time.monotonic()
    read = archive(options.kafka, lines)
    print(f"{read:,} records archived, {time.monotonic() - began:.1f} s", flush=True)
    began = time.monotonic()
    first, expected = compute(lines, int(until.timestamp() * 1000), days)
    print(f"{expected[0]:,} rows computed, {time.monotonic() - began:.1f} s", flush=True)
    began = time.monotonic()
    start = f"{datetime.fromtimestamp(first / 1000, UTC):%Y-%m-%d}"
    ingest(options.overlord, options.broker, expected, first=start, until=options.until, file=str(days.resolve()))
    print(f"carrier_daily_batch serves {start} to {options.until}, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
