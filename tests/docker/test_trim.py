"""What the images' packages lose."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_of_word_lists_and_tables_their_data_alone_is_kept(tmp_path: Path) -> None:
    """Screens and models read it by the packages' own records, and do the same with the trimmed ones."""
    site = tmp_path / "lib/python3.12/site-packages"
    for name in ("glin_profanity", "opencc"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, site / name)
        [record] = Path(spec.origin).parents[1].glob(f"{name}*.dist-info")
        shutil.copytree(record, site / record.name)
    subprocess.run([sys.executable, ROOT / "docker/trim.py", tmp_path], check=True, capture_output=True)
    assert not list(site.glob("*/**/*.py")) and (site / "opencc/dictionary/TSCharacters.txt").stat().st_size > 20_000

    program = (
        "from importlib.metadata import distribution; from safety.text.lists import _packaged_words; "
        "from safety.text.normalise import fold; from models.engines.text_folding import _table; "
        "words = [len(_packaged_words('glin-profanity', f'glin_profanity/data/dictionaries/{name}.json')) "
        "for name in ('chinese', 'english')]; "
        "print(distribution('opencc-python-reimplemented').locate_file(''), min(words) > 100, fold('國際'), "
        "all(_table(name) for name in ('TSCharacters.txt', 'TSPhrases.txt')))"
    )
    environment = {"PYTHONPATH": f"{site}:{ROOT}", "PYTHONUTF8": "1", "PATH": ""}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert told.stdout.split() == [str(site), "True", "国际", "True"]


def test_modules_for_tests_go_and_others_stay(tmp_path: Path) -> None:
    """Theirs and what is compiled of them; a file that only begins alike stays."""
    package = tmp_path / "lib/python3.12/site-packages/library"
    (package / "__pycache__").mkdir(parents=True)
    gone = ["testclient.py", "__pycache__/testclient.cpython-312.pyc", "pytest_plugin.py", "mypy.py", "_trio.py"]
    stays = ["testclients.py", "client.py", "mypy.txt", "__pycache__/client.cpython-312.pyc"]
    for name in (*gone, *stays):
        (package / name).write_bytes(b"x" * 10)
    subprocess.run([sys.executable, ROOT / "docker/trim.py", tmp_path], check=True, capture_output=True)
    left = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert left == set(stays)


@pytest.mark.slow
def test_packages_keep_their_versions_and_needs_and_lose_their_readmes(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.12/site-packages"
    (site / "library").mkdir(parents=True)
    (site / "library/RECORD").write_text("a file of the library's own")
    info = site / "library-1.2.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "RECORD").write_text("library/__init__.py,,\n" * 100)
    (info / "licenses/LICENSE").write_text("Apache")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: library\nVersion: 1.2\nRequires-Dist: other>=3\nLicense-Expression: MIT\n\n"
        "# library\n\nVersion: 9.9 of it is better\n"
    )
    subprocess.run([sys.executable, ROOT / "docker/trim.py", tmp_path], check=True, capture_output=True)
    left = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert left == {"library/RECORD", "library-1.2.dist-info/METADATA", "library-1.2.dist-info/licenses/LICENSE"}
    program = "from importlib.metadata import distribution as d; print(d('library').version, *d('library').requires)"
    told = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert told.stdout.split() == ["1.2", "other>=3"] and "better" not in (info / "METADATA").read_text()
