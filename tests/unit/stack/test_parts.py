"""The parts as data: order, ports, and what they are rendered to."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pytest

from penstock.errors import DeclarationError
from penstock.replay.publish import LOST
from penstock.settings import PORT_OFFSETS, Settings
from penstock.stack.layout import Layout, layout, pyflink_home
from penstock.stack.parts import part_named, parts
from penstock.stack.render import changed, render, write

JAVA = Path("/usr/bin/java")


def test_parts_start_after_those_they_need(settings: Settings, with_airflow: None) -> None:
    needs = {part.name: set(part.needs) for part in parts(settings)}
    assert {name for name, needed in needs.items() if not needed} == {"zookeeper", "kafka", "airflow-api-server"}
    order = list(needs)
    for name, needed in needs.items():
        assert needed <= set(order[: order.index(name)]), "no part waits for one that waits for it"


def test_every_port_has_one_part(settings: Settings, with_airflow: None) -> None:
    claimed = [port for part in parts(settings) for port in part.ports]
    assert sorted(claimed) == sorted(PORT_OFFSETS)
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)
    assert max(PORT_OFFSETS.values()) < 100, "two stacks side by side are a hundred ports apart"


def test_an_unknown_part_is_named_with_all_there_are(settings: Settings) -> None:
    with pytest.raises(DeclarationError, match=r"no part 'kaffka'.*zookeeper, kafka, druid-coordinator"):
        part_named(settings, "kaffka")


def test_what_is_used_stops_after_what_uses_it(settings: Settings, with_airflow: None) -> None:
    wave = {part.name: part.stop_wave for part in parts(settings)}
    for part in parts(settings):
        assert all(wave[need] > part.stop_wave for need in part.needs)
    assert wave["kafka"] > wave["flink-taskmanager"]


def test_templates_are_filled(settings: Settings, with_airflow: None) -> None:
    for path, text in render(settings, JAVA).items():
        if path.suffix != ".sh":
            assert not re.search(r"\$\{?[a-z_]", text), f"{path} has a name left"


def test_nothing_is_rendered_that_listens_elsewhere(settings: Settings, with_airflow: None) -> None:
    texts = {str(path.relative_to(settings.stack.state)): text for path, text in render(settings, JAVA).items()}
    assert not any("0.0.0.0" in line for text in texts.values() for line in text.splitlines() if line[:1] not in "#;")
    assert "\ndruid.bindOnHost=true\n" in texts["conf/druid-broker/common.runtime.properties"]
    assert "\ndruid.host=127.0.0.1\n" in texts["conf/druid-broker/common.runtime.properties"]
    assert "\nclientPortAddress=127.0.0.1\n" in texts["conf/zookeeper/zoo.cfg"]
    assert "\nadmin.enableServer=false\n" in texts["conf/zookeeper/zoo.cfg"]
    for key in ("jobmanager.bind-host", "taskmanager.bind-host", "rest.bind-address"):
        assert f"\n{key}: 127.0.0.1\n" in texts["conf/flink-jobmanager/config.yaml"]
    addresses = re.findall(r"^listeners=(.*)$", texts["conf/kafka/server.properties"], re.MULTILINE)[0].split(",")
    assert all("//127.0.0.1:" in address for address in addresses)
    assert "\nhost = 127.0.0.1\n" in texts["conf/airflow-api-server/airflow.cfg"]
    assert "inet_http_server" not in texts["run/supervisord.conf"]


def test_the_taskmanagers_memory_adds_up(settings: Settings) -> None:
    """Flink checks the parts against nothing: the JVM's own options must be their sums."""
    files = render(settings, JAVA)
    conf = layout(settings).conf / "flink-taskmanager"
    size = {
        name: int(megabytes)
        for name, megabytes in re.findall(r"^taskmanager\.memory\.(\S+): (\d+)m$", files[conf / "config.yaml"], re.M)
    }
    args = files[conf / "java.args"]
    assert f"-Xmx{size['framework.heap.size'] + size['task.heap.size']}m" in args
    direct = size["framework.off-heap.size"] + size["task.off-heap.size"] + size["network.max"]
    assert f"-XX:MaxDirectMemorySize={direct}m" in args
    assert f"-XX:MaxMetaspaceSize={size['jvm-metaspace.size']}m" in args
    assert size["network.min"] == size["network.max"]


def test_two_stacks_share_no_port_and_no_file(make_settings: Callable[..., Settings], with_airflow: None) -> None:
    one, two = make_settings("one", 21000), make_settings("two", 21100)
    for name in PORT_OFFSETS:
        assert str(one.stack.port(name)) not in "".join(render(two, JAVA).values())
    assert not set(render(one, JAVA)) & set(render(two, JAVA))


def test_parts_start_when_told_and_come_back_by_themselves(settings: Settings) -> None:
    file = ConfigParser(interpolation=None)
    file.read_string(render(settings, JAVA)[layout(settings).supervisord_conf])
    for part in parts(settings):
        program = file[f"program:{part.name}"]
        assert (program["autostart"], program["autorestart"]) == ("false", "true")
        assert (program["stopasgroup"], program["killasgroup"]) == ("true", "true")
        assert program["stdout_logfile"] == str(layout(settings).log_file(part.name))
        assert f'PENSTOCK_STACK="{settings.stack.state}"' in program["environment"]
        assert f"@{layout(settings).args_file(part.name)}" in program["command"]


def test_a_percent_sign_survives_the_process_manager(settings: Settings) -> None:
    text = render(settings, Path("/opt/100%/java"))[layout(settings).supervisord_conf]
    assert "command=/opt/100%%/java " in text


def test_what_a_killed_indexer_left_is_put_right_before_it_starts_again(settings: Settings, tmp_path: Path) -> None:
    """Run as the process manager runs it, with a program in Java's place that tells what it was started with."""
    state = settings.stack.state
    file = ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    files = render(settings, Path("/bin/echo"))
    file.read_string(files[layout(settings).supervisord_conf])
    write(settings, files)
    slot, told = state / "druid/tasks/slot0", state / "tmp/druid-indexer/persistent/task"
    note, ran = told / "completedTasks/done", ["index_kafka_clicks_1", "penstock_replay_test_r1_1", "a user's own *"]
    for made in (slot / ran[0] / "work/persist/commit.json", note):
        made.parent.mkdir(parents=True)
        made.write_text("{}")
    (told / "restore.json").write_text(json.dumps({"runningTasks": ran}, separators=(",", ":")))
    done = subprocess.run(shlex.split(file["program:druid-indexer"]["command"]), capture_output=True, text=True)
    assert slot.is_dir() and not list(slot.iterdir())
    assert note.is_file(), "by it a new indexer tells which tasks have ended"
    for task in ran:
        said = json.loads((told / "completedTasks" / task).read_text())
        status = said["taskStatus"]
        assert (said["id"], status["id"], status["status"]) == (task, task, "FAILED")
        assert any(words in status["errorMsg"] for words in LOST), "a replay whose task it was tries anew"
    assert not (told / "restore.json").exists()
    assert done.stdout.split()[-1] == f"@{layout(settings).args_file('druid-indexer')}" and not done.stderr


def test_changes_are_seen(settings: Settings) -> None:
    files = render(settings, JAVA)
    write(settings, files)
    assert changed(files) == []
    moved = settings.model_copy(update={"stack": settings.stack.model_copy(update={"port_base": 25000})})
    assert layout(settings).conf / "zookeeper" / "zoo.cfg" in changed(render(moved, JAVA))


def test_a_template_with_an_unknown_name_is_told(settings: Settings) -> None:
    infra = settings.root / "infra"
    infra.unlink()
    (infra / "supervisor").mkdir(parents=True)
    (infra / "supervisor" / "jvm.args").write_text("-Dx=${nothing}")
    with pytest.raises(DeclarationError, match=r"jvm\.args: names 'nothing'"):
        render(settings, JAVA)


def test_a_project_without_templates_has_those_that_are_shipped(settings: Settings) -> None:
    files = render(settings, JAVA)
    (settings.root / "infra").unlink()
    assert render(settings, JAVA) == files


def test_without_a_template_it_is_said_where_it_should_be(settings: Settings) -> None:
    (settings.root / "infra").unlink()
    (settings.root / "infra").mkdir()
    with pytest.raises(DeclarationError, match=r"infra/supervisor/jvm\.args: can't be read"):
        render(settings, JAVA)


def test_a_socket_too_long_is_put_in_a_short_directory(tmp_path: Path) -> None:
    short, long = Layout(tmp_path / "s"), Layout(tmp_path / ("long" * 30))
    assert short.socket == short.run / "s.sock"
    assert len(str(long.socket)) < 100
    assert long.socket != Layout(tmp_path / ("long" * 31)).socket


@pytest.mark.parametrize("name", ["my state", "a:b", "a,b", "a;b", "100%"])
def test_a_state_directory_that_no_settings_file_can_hold_is_refused(settings: Settings, name: str) -> None:
    moved = settings.stack.model_copy(update={"state": settings.root / name})
    with pytest.raises(DeclarationError, match="can't hold"):
        layout(settings.model_copy(update={"stack": moved}))


def test_pyflink_is_found_without_importing_it() -> None:
    import subprocess
    import sys

    code = "import sys; from penstock.stack.layout import pyflink_home as f; f(); print('pyflink' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
    home = pyflink_home()
    assert home is not None
    assert home.name == "pyflink"
