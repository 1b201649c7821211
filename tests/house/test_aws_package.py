"""The zip for Managed Service for Apache Flink has the layout that its properties name."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from cloudformation import read_template
from engines.flink.settings import JobSettings
from serving.settings import load as load_settings


def load(path: Path) -> ModuleType:
    """Import a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(f"aws_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jar(path: Path, **entries: str) -> Path:
    """Write a small jar; `__` stands for a slash."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


@pytest.fixture
def built(repository: Path, tmp_path: Path) -> zipfile.ZipFile:
    package = load(repository / "deploy" / "aws" / "package.py")
    services = {"META-INF__services__a.Factory": "one.Factory"}
    one = jar(tmp_path / "one.jar", **{"META-INF__x.SF": "signed", "one__A": "1", **services})
    services = {"META-INF__services__a.Factory": "two.Factory"}
    two = jar(tmp_path / "two.jar", **{"one__A": "other", "pho__LogRecords.class": "2", **services})
    out = package.build(tmp_path / "pho.zip", (one, two))
    again = package.build(tmp_path / "again.zip", (one, two))
    assert out.read_bytes() == again.read_bytes()
    return zipfile.ZipFile(out)


def test_everything_lies_where_the_template_says(
    built: zipfile.ZipFile, repository: Path, tmp_path: Path
) -> None:
    names = set(built.namelist())
    template = read_template(repository / "deploy" / "aws" / "template.yaml")
    for job in ("LoopApplication", "AnalyzeApplication"):
        told = template["Resources"][job]["Properties"]["ApplicationConfiguration"]
        groups = {
            group["PropertyGroupId"]: group["PropertyMap"]
            for group in told["EnvironmentProperties"]["PropertyGroups"]
        }
        options = groups["kinesis.analytics.flink.run.options"]
        assert options["python"] in names
        assert options["jarfile"] in names
        # What a worker imports, and nothing of the ways in.
        tops = {
            name.removeprefix(options["pyFiles"]).split("/")[0]
            for name in names
            if name.startswith(options["pyFiles"])
        }
        assert tops == {"schemas", "policies", "pipelines", "connectors", "engines"}
    assert "dep/schemas/avro/DecisionMade.avsc" in names or any(
        name.endswith(".avsc") for name in names
    )
    merged = tmp_path / "merged.jar"
    merged.write_bytes(built.read("lib/pho-dependencies.jar"))
    with zipfile.ZipFile(merged) as inside:
        assert inside.read("one/A") == b"1", "the first one holds"
        assert "pho/LogRecords.class" in inside.namelist()
        assert "META-INF/x.SF" not in inside.namelist()
        assert inside.read("META-INF/services/a.Factory").split() == [
            b"one.Factory",
            b"two.Factory",
        ]
    built.close()


def test_workers_install_what_is_pinned(built: zipfile.ZipFile, repository: Path) -> None:
    pinned = (repository / "constraints-flink.txt").read_text().splitlines()
    wanted = built.read("requirements.txt").decode().splitlines()
    assert wanted
    assert set(wanted) <= set(pinned)
    assert not [line for line in wanted if line.startswith("apache-flink")]
    built.close()


def test_the_properties_become_a_jobs_settings(repository: Path, tmp_path: Path) -> None:
    main = load(repository / "deploy" / "aws" / "main.py")
    path = tmp_path / "application_properties.json"
    path.write_text(
        json.dumps(
            [
                {"PropertyGroupId": "other", "PropertyMap": {"a": "b"}},
                {
                    "PropertyGroupId": "pho",
                    "PropertyMap": {"job": "loop", "servers": "b-1:9092", "parallelism": "2"},
                },
            ]
        )
    )
    told = main.properties(path)
    assert told.pop("job") == "loop"
    settings = msgspec.convert(main.nested(told), JobSettings, strict=False)
    assert (settings.servers, settings.parallelism) == ("b-1:9092", 2)
    path.write_text("[]")
    with pytest.raises(SystemExit, match="group 'pho'"):
        main.properties(path)
    assert "pyflink" not in sys.modules


def test_the_templates_properties_are_what_pho_toml_says(repository: Path) -> None:
    main = load(repository / "deploy" / "aws" / "main.py")
    template = read_template(repository / "deploy" / "aws" / "template.yaml")
    told = {}
    for job in ("Loop", "Analyze"):
        properties = template["Resources"][f"{job}Application"]["Properties"]
        groups = properties["ApplicationConfiguration"]["EnvironmentProperties"]["PropertyGroups"]
        (ours,) = (g["PropertyMap"] for g in groups if g["PropertyGroupId"] == "pho")
        # What stands for another resource gets a name of its own.
        flat = {name: each if isinstance(each, str) else f"{each}" for name, each in ours.items()}
        assert flat.pop("job") == job.lower()
        told[job] = msgspec.convert(main.nested(flat), JobSettings, strict=False).services
    assert told["Loop"].bucket == told["Analyze"].bucket
    assert "PicturesBucket" in told["Loop"].bucket
    ours = load_settings(None, {}, {})
    without_models = msgspec.structs.replace(ours.rekognition, fallback="none")
    assert told["Analyze"].rekognition == without_models
    endpoint = told["Analyze"].endpoint
    assert endpoint is not None
    assert endpoint == msgspec.structs.replace(ours.endpoint, name=endpoint.name)
    assert "EndpointName" in endpoint.name
