"""Start a part in a container: fill the templates of infra/ with the container's values, and become the part.

    start.py flink-jobmanager | flink-taskmanager
    start.py airflow api-server | scheduler | dag-processor | triggerer | db migrate

Anything else is run as it is.  Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template

INFRA = Path("/opt/penstock/infra")
WORK = Path("/tmp/penstock")

#: What the templates name; ports are the services' own, each container having an address of its own.
VALUES = {
    "state": str(WORK),
    "state_uri": "file:///var/lib/penstock",
    "conf": str(WORK / "conf"),
    "logs": str(WORK / "logs"),
    "tmp": str(WORK / "tmp"),
    "jars": "/opt/penstock/.penstock/jars",
    "dags": "/opt/penstock/dags",
    "pyflink": "/opt/flink",
    "zookeeper": "2181",
    "flink_rest": "8081",
    "flink_rpc": "6123",
    "flink_blob": "6124",
    "flink_tm_rpc": "6122",
    "flink_tm_data": "6121",
    "airflow_api": "8080",
}


def fill(part: str, *names: str) -> str:
    texts = ((INFRA / name).read_text(encoding="utf-8") for name in names)
    return "\n".join(Template(text).substitute(VALUES, part=part) for text in texts)


def overlaid(base: str, over: str) -> str:
    """Return flat YAML with the keys of `over` in the place of the same keys of `base`."""
    named = set(_keys(over.splitlines()))
    kept = [line for line in base.splitlines() if next(_keys([line]), None) not in named]
    return "\n".join([*kept, over, ""])


def _keys(lines: Iterable[str]) -> Iterable[str]:
    return (line.partition(":")[0] for line in lines if ":" in line and not line.startswith("#"))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as stream:
        stream.write(text)


def flink(part: str) -> list[str]:
    """Write a Flink process's configuration and return its command line.

    Kafka's name and password are given to the JVM in a file: a job names neither, so that what is compiled, shown by
    the web page or kept with a checkpoint holds no secret.
    """
    conf, kind = WORK / "conf" / part, part.removeprefix("flink-")
    config = overlaid(fill(part, "flink/config.yaml"), fill(part, "compose/flink/config.yaml"))
    write(conf / "config.yaml", config)
    write(conf / "log4j.properties", fill(part, "flink/log4j.properties"))
    arguments = fill(part, "supervisor/jvm.args", "flink/jvm.args", f"compose/flink/{kind}.args")
    write(conf / "java.args", arguments)
    login = conf / "jaas.conf"
    write(login, fill_login(), 0o600)
    for folder in (WORK / "tmp" / part, WORK / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    return ["java", f"-Djava.security.auth.login.config={login}", f"@{conf / 'java.args'}"]


def fill_login() -> str:
    """Return the JAAS section that Kafka's clients look for; Flink's connector has them under a name of its own."""
    module = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.scram.ScramLoginModule"
    password = os.environ["PENSTOCK_KAFKA_FLINK_PASSWORD"]
    return f'KafkaClient {{\n  {module} required username="flink" password="{password}";\n}};\n'


def airflow(words: list[str]) -> list[str]:
    """Write Airflow's configuration (secrets come by its own environment variables) and return the command line."""
    home = WORK / "airflow"
    write(home / "airflow.cfg", fill("airflow", "airflow/airflow.cfg"))
    write(home / "passwords.json", json.dumps({"admin": os.environ["PENSTOCK_AIRFLOW_PASSWORD"]}), 0o600)
    os.environ.update(AIRFLOW_HOME=str(home), AIRFLOW_CONFIG=str(home / "airflow.cfg"))
    return ["airflow", *words]


def main(words: list[str]) -> None:
    if words[0] in ("flink-jobmanager", "flink-taskmanager"):
        words = flink(words[0])
    elif words[0] == "airflow":
        words = airflow(words[1:])
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
