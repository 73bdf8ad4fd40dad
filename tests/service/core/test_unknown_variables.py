"""A variable that is misspelt is told, and none that has another use."""

import re
from pathlib import Path

from service.core.unknown_variables import unknown_variables

ROOT = Path(__file__).parents[3]


def test_variables_that_nothing_reads_are_named_with_the_nearest_that_there_is() -> None:
    environment = {
        "VISCPM_QUEU_SIZE": "8",
        "VISCPM_CHAT_DEVISE": "cuda",
        "viscpm_saftey": "off",
        "VISCPM_NOTHING_LIKE_IT": "1",
        "VISCPM_PORT": "1",
        "viscpm_host": "::1",
        "QUEU_SIZE": "9",
        "CUDA_MEMORY_CPMBEE_MAX": "",
    }
    assert unknown_variables(environment) == (
        "no setting is called VISCPM_CHAT_DEVISE (did you mean VISCPM_CHAT_DEVICE?), VISCPM_NOTHING_LIKE_IT, "
        "VISCPM_QUEU_SIZE (did you mean VISCPM_QUEUE_SIZE?), viscpm_saftey (did you mean VISCPM_SAFETY?): ignored"
    )


def test_variables_of_compose_tests_and_kubernetes_are_not_misspelt() -> None:
    files = [
        ROOT / "docker-compose.yml",
        ROOT / "Dockerfile",
        *(path for path in (ROOT / "docker").rglob("*") if path.is_file()),
    ]
    texts = [path.read_text("utf-8") for path in files if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bVISCPM_[A-Z_]*[A-Z]\b", text)}
    assert {"VISCPM_TAG", "VISCPM_PUBLISH"} <= named
    told = ("VISCPM_SERVICE_HOST", "VISCPM_API_SERVICE_PORT_HTTP", "VISCPM_API_PORT_8000_TCP_ADDR", "VISCPM_TEST_LOG")
    assert unknown_variables(dict.fromkeys([*named, *told], "")) == ""
