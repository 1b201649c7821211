"""What deploy/ says is true: versions, names of metrics and alarms, commands, users, ports."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from engines.flink.metrics import COUNTERS, PROMETHEUS_PREFIX
from serving.settings import load

JOBS = ("analyze", "loop")
ENGINES = {
    "embedded": "constraints.txt",
    "flink": "constraints-flink.txt",
    "beam": "constraints-beam.txt",
}
EXTRAS_OF = {
    "constraints.txt": ("vision", "kafka", "dev"),
    "constraints-flink.txt": ("flink", "vision", "kafka", "aws"),
    "constraints-beam.txt": ("beam", "kafka"),
}

_METRIC = re.compile(r"\bflink_\w+")
_IMAGE = re.compile(r"^FROM\s+(\S+)", re.MULTILINE)


def constant(root: Path, name: str) -> Any:
    """Return a constant of setup.py without running it."""
    for node in ast.parse((root / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    problem = f"setup.py has no {name}"
    raise AssertionError(problem)


def version(root: Path) -> str:
    """Return PHO's version."""
    found = re.search(r'version="([^"]+)"', (root / "setup.py").read_text(encoding="utf-8"))
    assert found
    return found[1]


def pins(path: Path) -> dict[str, str]:
    """Return the pinned version of each package of a constraints file."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        name.lower().replace("_", "-"): pinned
        for name, _, pinned in (line.partition("==") for line in lines if line[:1] not in ("", "#"))
    }


def broken_pins(root: Path, file: str) -> list[str]:
    """Name the requirements of setup.py that a constraints file does not pin, or pins wrongly."""
    pinned = pins(root / file)
    extras = constant(root, "EXTRAS")
    wanted = [*constant(root, "CORE"), *(line for name in EXTRAS_OF[file] for line in extras[name])]
    found = []
    for line in wanted:
        requirement = Requirement(line)
        exact = pinned.get(requirement.name.lower())
        if exact is None or not requirement.specifier.contains(exact):
            found.append(f"{file}: {line} is pinned as {exact}")
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def walk(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a document, at any depth."""
    if isinstance(tree, dict):
        yield tree
    for inner in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from walk(inner)


def images(deploy: Path) -> Iterator[tuple[str, str]]:
    """Yield every image that is named, with the file that names it; a stage's name is none."""
    for path in sorted((deploy / "images").glob("*.Dockerfile")):
        text = path.read_text(encoding="utf-8")
        stages = set(re.findall(r"\sAS\s+(\S+)", text))
        yield from ((path.name, image) for image in _IMAGE.findall(text) if image not in stages)
    for path in [deploy / "compose.yaml", *sorted((deploy / "kubernetes").glob("*.yaml"))]:
        for document in documents(path):
            yield from ((path.name, part["image"]) for part in walk(document) if "image" in part)


def loose_images(deploy: Path) -> list[str]:
    """Name the images that are not of one version."""
    return [
        f"{file}: {image}"
        for file, image in images(deploy)
        if not re.search(r":v?\d[\w.-]*$", image)
    ]


def alerts(deploy: Path) -> dict[str, dict[str, Any]]:
    """Return the alarms by name."""
    (rules,) = documents(deploy / "prometheus" / "rules.yaml")
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def panels(deploy: Path) -> list[dict[str, Any]]:
    """Return the dashboard's panels, rows aside."""
    board = json.loads((deploy / "grafana" / "pho.json").read_text(encoding="utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def unknown_metrics(deploy: Path) -> list[str]:
    """Name the metrics of alarms and dashboard that neither Flink nor PHO has."""
    seen = (deploy / "prometheus" / "flink_metrics.txt").read_text(encoding="utf-8").split("\n")
    known = set(seen) | {PROMETHEUS_PREFIX + name for name in COUNTERS}
    texts = {f"alarm {name}": rule["expr"] for name, rule in alerts(deploy).items()}
    for panel in panels(deploy):
        expressions = " ".join(target["expr"] for target in panel["targets"])
        texts[f"panel {panel['title']}"] = expressions
    texts["rules_test.yaml"] = (deploy / "prometheus" / "rules_test.yaml").read_text("utf-8")
    return [
        f"{where}: {name}"
        for where, text in texts.items()
        for name in _METRIC.findall(text)
        if name not in known
    ]


def command_problem(command: Any, words: list[str]) -> str | None:
    """Say what of a command line the application does not have; None: it has all."""
    shown = " ".join(words)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"pho {shown}: there is no such command"
        command, words = command.commands[words[0]], words[1:]
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    missing = [word for word in words if word.startswith("--") and word not in options]
    return f"pho {shown}: no option {', '.join(missing)}" if missing else None


def shown_commands(deploy: Path) -> Iterator[list[str]]:
    """Yield every `pho` command line that images, compose and Kubernetes would run."""
    for path in sorted((deploy / "images").glob("*.Dockerfile")):
        for line in re.findall(
            r"^\s*(?:HEALTHCHECK.*)?CMD (\[.*\])$", path.read_text("utf-8"), re.M
        ):
            words = json.loads(line)
            if words[0] == "pho":
                yield words[1:]
    (compose,) = documents(deploy / "compose.yaml")
    for service in compose["services"].values():
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["pho"]:
            yield test[2:]
        if service["image"].startswith("pho-embedded") or service.get("entrypoint") == ["pho"]:
            yield service["command"]
    for path in sorted((deploy / "kubernetes").glob("*.yaml")):
        for part in (part for document in documents(path) for part in walk(document)):
            if part.get("command", [])[:1] == ["pho"]:
                yield [*part["command"][1:], *part.get("args", [])]
            elif str(part.get("image", "")).startswith("pho-embedded"):
                yield part["args"]


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


@pytest.fixture(scope="module")
def jobs(deploy: Path) -> dict[str, dict[str, Any]]:
    return {name: documents(deploy / "kubernetes" / f"{name}.yaml")[0]["spec"] for name in JOBS}


@pytest.mark.parametrize("file", EXTRAS_OF)
def test_the_pinned_versions_are_those_that_setup_allows(repository: Path, file: str) -> None:
    assert broken_pins(repository, file) == []


def test_every_image_has_a_version_that_is_no_moving_target(deploy: Path) -> None:
    assert len(list(images(deploy))) > 15
    assert loose_images(deploy) == []


def test_flink_is_everywhere_the_version_that_setup_names(
    repository: Path, deploy: Path, jobs: dict[str, Any]
) -> None:
    pinned = pins(repository / "constraints-flink.txt")["apache-flink"]
    text = (deploy / "images" / "flink.Dockerfile").read_text(encoding="utf-8")
    assert f"FROM flink:{pinned}-java17 AS flink" in text
    assert set(re.findall(r"flink-(?:python|s3-fs-presto)-([\d.]+)\.jar", text)) == {pinned}
    for spec in jobs.values():
        assert spec["job"]["jarURI"].endswith(f"/flink-python-{pinned}.jar")
        assert spec["flinkVersion"] == "v" + "_".join(pinned.split(".")[:2])


def test_kafkas_versions_are_those_that_the_jars_are_pinned_to(
    repository: Path, deploy: Path
) -> None:
    broker = (repository / "connectors" / "kafka_broker.sha256").read_text(encoding="utf-8")
    (kafka,) = re.findall(r"kafka_2\.13-([\d.]+)\.jar", broker)
    assert ("compose.yaml", f"apache/kafka:{kafka}") in set(images(deploy))
    _, jar = (repository / "connectors" / "flink_kafka.sha256").read_text("utf-8").split()
    text = (deploy / "images" / "flink.Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"flink-sql-connector-kafka-[\w.-]+\.jar", text)) == {jar}
    artifact = jar.removesuffix(".jar").replace("kafka-", "kafka:")
    assert f"-Dartifact=org.apache.flink:{artifact}" in text


def test_our_own_images_and_the_wheel_are_of_this_version(
    repository: Path, deploy: Path, jobs: dict[str, Any]
) -> None:
    ours = {image for _, image in images(deploy) if image.startswith("pho-")}
    assert {image.rpartition(":")[2] for image in ours} == {version(repository)}
    for spec in jobs.values():
        assert f"/opt/pho/wheel/pho-{version(repository)}-py3-none-any.whl" in spec["job"]["args"]


@pytest.mark.parametrize(("engine", "constraints"), ENGINES.items())
def test_an_image_is_pinned_runs_as_nobody_and_says_how_it_is(
    deploy: Path, engine: str, constraints: str
) -> None:
    text = (deploy / "images" / f"{engine}.Dockerfile").read_text(encoding="utf-8")
    last = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["9999:9999"]
    assert "HEALTHCHECK" in last
    installs = re.findall(r"pip install .*", text)
    assert installs
    assert all(f"-c {constraints} " in line for line in installs)
    ignored = (deploy / "images" / f"{engine}.Dockerfile.dockerignore").read_text("utf-8")
    for source in re.findall(r"^COPY ([a-z]\S*) \S+$", text, re.MULTILINE):
        assert f"!{source.split('/')[0]}" in ignored.split(), source


def test_compose_opens_nothing_beyond_this_machine_and_holds_no_secret(deploy: Path) -> None:
    (compose,) = documents(deploy / "compose.yaml")
    ports = [port for part in compose["services"].values() for port in part.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    settings = str([part.get("environment") for part in compose["services"].values()])
    assert "PASSWORD" not in settings.upper()
    for part in compose["services"].values():
        for file in part.get("env_file", []):
            example = (deploy / f"{file}.example").read_text(encoding="utf-8")
            assert re.search(r"^(# )?[A-Z_]+=$", example, re.MULTILINE), "a value in an example"


def test_in_compose_everything_that_is_waited_for_can_come(deploy: Path) -> None:
    (compose,) = documents(deploy / "compose.yaml")
    services = compose["services"]
    for name, part in services.items():
        assert part.get("healthcheck") or part["image"].startswith("pho-"), name
        waits = part.get("depends_on", {})
        for other, wait in waits.items() if isinstance(waits, dict) else ():
            disabled = services[other].get("healthcheck", {}).get("disable", False)
            assert disabled == (wait["condition"] == "service_completed_successfully"), name
        for volume in part.get("volumes", []):
            source = volume.split(":")[0]
            is_there = (deploy / source).exists() or source in compose["volumes"]
            assert is_there, f"{name} mounts {source}"


def test_every_command_that_is_run_exists(deploy: Path) -> None:
    command = typer.main.get_command(importlib.import_module("serving.cli").app)
    shown = list(shown_commands(deploy))
    assert len(shown) >= 12
    found = [problem for words in shown if (problem := command_problem(command, words))]
    assert not found, "\n".join(found)


def test_the_settings_that_are_mounted_can_be_read(deploy: Path, tmp_path: Path) -> None:
    config = documents(deploy / "kubernetes" / "pho.yaml")[0]["data"]["pho.toml"]
    (tmp_path / "pho.toml").write_text(config)
    on_cluster = load(tmp_path / "pho.toml", environment={"PHO_KAFKA__PASSWORD": "x"})
    on_one_machine = load(deploy / "pho.toml", environment={})
    assert on_cluster.kafka.replication == 3
    assert on_one_machine.log.address == "kafka://kafka:9092/shop"


def test_both_jobs_are_started_alike_and_upgraded_by_savepoint(jobs: dict[str, Any]) -> None:
    shapes = set()
    for name, spec in jobs.items():
        job, (init,) = spec["job"], spec["jobManager"]["podTemplate"]["spec"]["initContainers"]
        assert job["args"].count(name) == 1
        shapes.add(" ".join(job["args"]).replace(f" {name} ", " JOB "))
        assert job["upgradeMode"] == "savepoint"
        # The submitter's number is what the job takes; the operator counts TaskManagers by its own.
        assert init["args"][init["args"].index("--parallelism") + 1] == str(job["parallelism"])
        assert init["args"][1] == name
        assert init["args"][init["args"].index("--write-settings") + 1] == job["args"][-1]
        options = spec["flinkConfiguration"]
        assert all(isinstance(value, str) for value in options.values())
        assert options["high-availability.type"] == "kubernetes"
        places = [value for value in options.values() if value.startswith("s3://")]
        assert len(places) == 3
        assert all(f"/{name}/" in place for place in places), "two jobs must not share a place"
        assert spec["podTemplate"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert len(shapes) == 1


def test_nothing_on_kubernetes_runs_as_root(deploy: Path) -> None:
    pods = [
        part["spec"]
        for document in documents(deploy / "kubernetes" / "pho.yaml")
        for part in walk(document)
        if "containers" in part.get("spec", {})
    ]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]


def test_every_metric_was_seen_or_is_counted_by_us(deploy: Path) -> None:
    assert unknown_metrics(deploy) == []


def test_every_alarm_has_its_heading_in_the_runbook_and_a_test(
    repository: Path, deploy: Path
) -> None:
    runbook = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", runbook, re.MULTILINE)
    assert headings == list(alerts(deploy))
    tested = (deploy / "prometheus" / "rules_test.yaml").read_text(encoding="utf-8")
    for name, rule in alerts(deploy).items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert name in tested
        chapter = runbook.split(f"### {name}\n")[1].split("\n#")[0]
        assert "**Means.**" in chapter, name
        assert re.search(r"\*\*(Do|Look and do)\.\*\*", chapter), name


def test_the_dashboard_has_whole_panels_that_do_not_overlap(deploy: Path) -> None:
    sources = documents(deploy / "grafana" / "datasources.yaml")[0]["datasources"]
    places = set()
    for panel in panels(deploy):
        at = panel["gridPos"]
        places.add((at["x"], at["y"]))
        assert at["x"] % at["w"] == 0
        assert at["x"] + at["w"] <= 24
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {sources[0]["uid"]}
    assert len(places) == len(panels(deploy)) == len({panel["id"] for panel in panels(deploy)})


def test_each_check_sees_what_breaks_its_rule(repository: Path, tmp_path: Path) -> None:
    for folder in ("images", "kubernetes", "prometheus", "grafana"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "a.Dockerfile").write_text("FROM flink:latest AS one\nFROM one\n")
    (tmp_path / "compose.yaml").write_text("services: {a: {image: kafka}, b: {image: 'x:1.2'}}\n")
    assert loose_images(tmp_path) == ["a.Dockerfile: flink:latest", "compose.yaml: kafka"]
    rule = "groups: [{rules: [{alert: A, expr: 'flink_a + flink_b'}]}]\n"
    (tmp_path / "prometheus" / "rules.yaml").write_text(rule)
    (tmp_path / "prometheus" / "rules_test.yaml").write_text("flink_a\n")
    (tmp_path / "prometheus" / "flink_metrics.txt").write_text("# flink_b\nflink_a\n")
    (tmp_path / "grafana" / "pho.json").write_text(
        '{"panels": [{"type": "stat", "title": "P", "targets": [{"expr": "rate(flink_c[1m])"}]}]}'
    )
    assert unknown_metrics(tmp_path) == ["alarm A: flink_b", "panel P: flink_c"]
    (tmp_path / "setup.py").write_text((repository / "setup.py").read_text(encoding="utf-8"))
    (tmp_path / "constraints-beam.txt").write_text("apache-beam==2.0\nnumpy==2.4.6\n")
    found = broken_pins(tmp_path, "constraints-beam.txt")
    assert "constraints-beam.txt: apache-beam>=2.60 is pinned as 2.0" in found
    assert not any("numpy" in line for line in found)
