"""The tests' tree equals the source's: a module's tests are found by its name, and every room stays small.

The tests of `service/queue/record.py` are `tests/service/queue/test_record.py` or `test_record_<aspect>.py` beside it.
A module that another's name begins with (`openapi`, `openapi_yaml`) does not live on the other's tests.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "safety", "service")
MAX_MODULES = 14  # in one folder; beyond it a room has become two

# Rooms that are larger for now, with their size: it may only shrink
LARGE_ROOMS: dict[str, int] = {}

# Modules without tests of their own. An entry that is no longer needed fails.
EXCEPTIONS: tuple[str, ...] = (
    "safety/contents.py",  # plain data: what is shown to the gate, and what it says, are tested with it
)


def modules(package: str) -> list[str]:
    """Those that hold code, by their paths; an entry point is tested as the command that it is."""
    paths = [path for path in sorted((ROOT / package).rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]
    return [path.relative_to(ROOT).as_posix() for path in paths if _holds_code(path)]


def _holds_code(path: Path) -> bool:
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return any(isinstance(node, code) for node in ast.parse(path.read_text("utf-8")).body)


def owner(test_file: Path) -> str | None:
    """The module that a test file is about, of the longest name that begins the file's; None: there is none."""
    folder = ROOT / test_file.parent.relative_to(ROOT / "tests")
    name = test_file.stem.removeprefix("test_")
    named = [path for path in folder.glob("*.py") if name == path.stem or name.startswith(path.stem + "_")]
    longest = max(named, key=lambda path: len(path.stem), default=None)
    return None if longest is None else longest.relative_to(ROOT).as_posix()


def _owners() -> dict[str, str | None]:
    files = [path for package in PACKAGES for path in (ROOT / "tests" / package).rglob("test_*.py")]
    return {path.relative_to(ROOT).as_posix(): owner(path) for path in sorted(files)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_tests(package: str) -> None:
    found = modules(package)
    assert len(found) > 10, "the source is somewhere else"
    tested = {*EXCEPTIONS, *_owners().values()}
    missing = [module for module in found if module not in tested]
    assert missing == [], f"no tests/{package}/…/test_<module>.py for these"


@pytest.mark.slow
def test_no_exception_is_older_than_its_reason() -> None:
    assert len(EXCEPTIONS) == len(set(EXCEPTIONS))
    known = {module for package in PACKAGES for module in modules(package)}
    gone = [module for module in EXCEPTIONS if module not in known]
    assert gone == [], "these modules are not there any more, or hold no code"
    tested = sorted(set(EXCEPTIONS) & set(_owners().values()))
    assert tested == [], "these have tests by now: take them out of EXCEPTIONS"


def test_every_test_file_names_its_module() -> None:
    strange = [path for path, module in _owners().items() if module is None]
    assert strange == [], "no module beside these is named so"


def test_packages_are_empty_but_for_their_modules() -> None:
    inits = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert len(inits) > 20
    assert [path.relative_to(ROOT).as_posix() for path in inits if path.read_text("utf-8").strip()] == []


def test_every_room_stays_small() -> None:
    large = {}
    for package in PACKAGES:
        for folder in (ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())):
            num_modules = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
            if num_modules > MAX_MODULES:
                large[folder.relative_to(ROOT).as_posix()] = num_modules
    assert large == LARGE_ROOMS, f"more than {MAX_MODULES} modules in one folder: look for a second room in it"
