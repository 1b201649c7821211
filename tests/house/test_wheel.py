"""What is shipped: the wheel holds every file it needs, and works away from the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

PACKAGES = (
    "schemas",
    "policies",
    "pipelines",
    "connectors",
    "engines",
    "producers",
    "serving",
)
COUNT_SCHEMAS = (
    "import schemas, schemas.codec; print(schemas.__file__, len(schemas.codec.released()))"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in a folder and return what it prints; a failure shows all of it."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def shipped_files(root: Path) -> set[str]:
    """Return the names of all files of the packages, from the root."""
    return {
        str(path.relative_to(root))
        for name in PACKAGES
        for path in (root / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what the build reads, so that it leaves nothing behind in the repository."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(repository / name, copy)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, copy / name, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution and from it the wheel, without a network."""
    target = tmp_path_factory.mktemp("dist")
    run(source, sys.executable, "-m", "build", "--no-isolation", "--outdir", target)
    (built,) = target.glob("pho-*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own; what PHO needs is lent by this one."""
    folder = tmp_path_factory.mktemp("clean")
    run(folder, sys.executable, "-m", "venv", "--without-pip", "env")
    python = folder / "env" / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    run(folder, *pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = folder / "env" / "lib" / version / "site-packages"
    # A path named in a .pth comes after the environment's own, and its own .pth files are not
    # read: an editable PHO over there stays out of sight.
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(
    source: Path, wheel: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == shipped_files(source)
    assert "serving/pho.toml" in names
    assert any(name.startswith("schemas/avro/") for name in names)


def test_the_command_runs_from_the_wheel(clean: Path) -> None:
    assert "pho" in run(clean, clean / "env" / "bin" / "pho", "--help")


def test_the_packaged_schemas_are_found_away_from_the_repository(
    repository: Path, clean: Path
) -> None:
    answer = run(clean, clean / "env" / "bin" / "python", "-I", "-c", COUNT_SCHEMAS)
    file, count = answer.split()
    assert Path(file).is_relative_to(clean)
    assert int(count) == len(list((repository / "schemas" / "avro").glob("*.avsc")))


def test_the_wheel_is_importable_as_it_is(repository: Path, wheel: Path) -> None:
    # Flink's workers get the wheel itself on their path (-pyfs), never unpacked.
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); {COUNT_SCHEMAS}"
    file, count = run(wheel.parent, sys.executable, "-I", "-c", code).split()
    assert file.startswith(str(wheel))
    assert int(count) == len(list((repository / "schemas" / "avro").glob("*.avsc")))


def test_a_file_that_is_not_packaged_is_seen(source: Path, wheel: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "source")
    (copy / "serving" / "forgotten.html").touch()
    with zipfile.ZipFile(wheel) as archive:
        assert shipped_files(copy) - set(archive.namelist()) == {"serving/forgotten.html"}
