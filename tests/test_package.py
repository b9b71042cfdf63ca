import importlib
import subprocess
import sys

import pytest

import recsys_helpers
from recsys_helpers.data import places


def test_import_is_light():
    """Importing the package loads no heavy library and compiles nothing."""
    code = (
        "import sys, recsys_helpers;"
        "print([m for m in ('numba', 'pandas', 'sklearn', 'matplotlib', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", recsys_helpers.__all__)
def test_public_names_exist_and_are_described(name):
    thing = getattr(recsys_helpers, name)
    assert thing.__doc__
    assert name in dir(recsys_helpers)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no_such"):
        importlib.import_module("recsys_helpers").no_such  # noqa: B018  The access is the test.


def test_files_of_the_repository_are_found_beside_the_package_or_in_it(tmp_path, monkeypatch):
    name = "benchmarks/results/als.json"
    assert recsys_helpers.repository_file(name).samefile(places.PACKAGE.parent / name)
    installed = tmp_path / "recsys_helpers"
    carried = installed / "_data" / name
    carried.parent.mkdir(parents=True)
    carried.write_text("{}")
    monkeypatch.setattr(places, "PACKAGE", installed)
    assert recsys_helpers.repository_file(name) == carried
    with pytest.raises(FileNotFoundError, match="'benchmarks/results/no.json' is neither in the repository"):
        recsys_helpers.repository_file("benchmarks/results/no.json")
