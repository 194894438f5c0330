"""Class-data archives: written by the first stop, used by later starts, given up when a jar changes."""

from __future__ import annotations

from pathlib import Path

from penstock.settings import Settings
from penstock.stack import cds
from penstock.stack.parts import Part, part_named


def fresh_of(settings: Settings, part: Part, java: Path) -> Path:
    text = cds.arguments(settings, part, java)
    assert text.startswith('-XX:ArchiveClassesAtExit="')
    return Path(text.split('"')[1])


def test_an_archive_is_written_once_and_then_used(settings: Settings) -> None:
    part, java = part_named(settings, "kafka"), settings.root / "jdk/bin/java"
    fresh_of(settings, part, java).write_text("classes")
    cds.keep(settings)
    text = cds.arguments(settings, part, java)
    assert text.startswith('-XX:SharedArchiveFile="')
    assert Path(text.split('"')[1]).read_text() == "classes"


def test_another_stacks_unfinished_archive_is_left_alone(settings: Settings) -> None:
    part, java = part_named(settings, "kafka"), settings.root / "jdk/bin/java"
    fresh_of(settings, part, java).write_text("half")
    moved = settings.stack.model_copy(update={"port_base": settings.stack.port_base + 100})
    cds.keep(settings.model_copy(update={"stack": moved}))
    assert fresh_of(settings, part, java).read_text() == "half"


def test_a_rebuilt_jar_makes_its_parts_archives_anew(settings: Settings) -> None:
    java = settings.root / "jdk/bin/java"
    kafka, broker = part_named(settings, "kafka"), part_named(settings, "druid-broker")
    for part in (kafka, broker):
        fresh_of(settings, part, java).write_text("classes")
    cds.keep(settings)
    next((settings.jars / "kafka").glob("*.jar")).write_text("rebuilt")
    fresh_of(settings, kafka, java)
    assert not list(cds.folder(settings).glob("kafka-*.jsa"))
    assert "SharedArchiveFile" in cds.arguments(settings, broker, java)


def test_parts_depend_on_their_own_jars_only(settings: Settings) -> None:
    names = {jar.name for jar in cds.jars_of(settings, part_named(settings, "flink-jobmanager"))}
    assert any(name.startswith("flink-dist-") for name in names)
    assert any(name.startswith("flink-sql-connector-kafka-") for name in names)
    assert not any(name.startswith("druid-") for name in names)
    zookeeper, broker = (part_named(settings, name) for name in ("zookeeper", "druid-broker"))
    assert cds.jars_of(settings, zookeeper) == cds.jars_of(settings, broker)
