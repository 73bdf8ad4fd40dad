import pytest

from tests.models.emoji.conftest import names  # noqa: F401 (a fixture)
from tests.models.training_files import Data, write_training_files


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return write_training_files(tmp_path_factory.mktemp("training"))
