"""Settings: read from the environment once, and refused in one line that names variable, value and what is allowed."""

from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from service.core.settings import Settings, SettingsError, read_settings


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PORT": "70000"}, "VISCPM_PORT=70000: Input should be less than or equal to 65535"),
        ({"QUEUE_SIZE": "many"}, "VISCPM_QUEUE_SIZE=many: Input should be a valid integer"),
        ({"SAFETY": "maybe"}, "VISCPM_SAFETY=maybe: Input should be 'on' or 'off'"),
        ({"AUTH": "yes"}, "VISCPM_AUTH=yes: Input should be 'auto', 'on' or 'off'"),
        ({"MODELS": " , "}, "VISCPM_MODELS is empty: it must name chat, paint or both"),
        ({"MODELS": "chat,draw"}, "VISCPM_MODELS=draw: Input should be 'chat' or 'paint'"),
        ({"FETCH_PORTS": "80,0"}, "VISCPM_FETCH_PORTS=0: Input should be greater than or equal to 1"),
        ({"FETCH_ALLOWED_HOSTS": "https://x.org"}, "'https://x.org' is no host: lower-case ASCII without scheme"),
        ({"FETCH_DENIED_HOSTS": "*.x.org"}, "'*.x.org' is no host"),
        ({"FETCH_DENIED_NETWORKS": "10.0.0.1/8"}, "VISCPM_FETCH_DENIED_NETWORKS=10.0.0.1/8"),
        ({"LEASE_S": "8", "LEASE_RENEW_S": "5"}, "VISCPM_LEASE_RENEW_S=5 must be at most half of VISCPM_LEASE_S=8"),
        (
            {"HEARTBEAT_S": "9"},
            "VISCPM_HEARTBEAT_S=9 must be at most half of VISCPM_HEARTBEAT_EXPIRY_S=15",
        ),
        (
            {"SAFETY_AUDIT_REQUIRED": "true"},
            "VISCPM_SAFETY_AUDIT_REQUIRED=true needs VISCPM_SAFETY_AUDIT_FILE, which is empty",
        ),
        (
            {"REDIS_URL": "rediss://h", "REDIS_CA_FILE": "/no/ca.pem"},
            "VISCPM_REDIS_CA_FILE=/no/ca.pem: there is no such",
        ),
        (
            {"REDIS_URL": "redis://h", "REDIS_CA_FILE": __file__},
            "VISCPM_REDIS_CA_FILE is of no use: VISCPM_REDIS_URL does not begin with rediss",
        ),
        ({"REDIS_URL": "rediss://h", "REDIS_KEY_FILE": __file__}, "and VISCPM_REDIS_CERT_FILE is not: both are needed"),
        (
            {"DRAIN_S": "1", "DRAIN_NOTICE_S": "2"},
            "VISCPM_DRAIN_NOTICE_S=2 is the first part of VISCPM_DRAIN_S=1 and cannot be longer",
        ),
        ({"IMAGE_BACKGROUND": "white"}, "VISCPM_IMAGE_BACKGROUND=white: no colour; allowed: # and six hex"),
        ({"LABEL_PRODUCER": 'a"b'}, 'VISCPM_LABEL_PRODUCER=a"b'),
        ({"PORT": "x", "QUEUE_SIZE": "0"}, "VISCPM_QUEUE_SIZE=0: Input should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"VISCPM_{name}", value)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert message in str(refused.value) and "\n" not in str(refused.value)
    if len(variables) == 2 and "PORT" in variables:
        assert "VISCPM_PORT=x" in str(refused.value), "every bad variable is named, not the first alone"


@pytest.mark.parametrize(("value", "limit_bytes"), [("", 0), ("1g", 2**30), ("12G", 12 * 2**30)])
def test_the_releases_variable_is_read_as_the_release_does(
    value: str, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", value)
    assert read_settings().cpmbee_max_bytes == limit_bytes


@pytest.mark.parametrize("value", ["12", "512m", "1.5g", "g", "0g", "-1g", "1gb"])
def test_what_the_release_cannot_read_is_refused_by_its_own_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release prints an error there and goes on without a limit."""
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", value)
    with pytest.raises(SettingsError, match=f"^CUDA_MEMORY_CPMBEE_MAX={value}: must be a whole number .* such as 12g$"):
        read_settings()


def test_a_limit_for_layers_that_stay_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", "1g")
    monkeypatch.setenv("VISCPM_OFFLOAD", "off")
    with pytest.raises(SettingsError, match=r"^CUDA_MEMORY_CPMBEE_MAX=1g limits layers .* unset one of them$"):
        read_settings()
    monkeypatch.setenv("VISCPM_OFFLOAD", "bminf")
    assert read_settings().offload == "bminf"


@pytest.mark.parametrize(
    ("value", "size_bytes"), [("5g", 5 * 2**30), ("7.5G", 15 * 2**29), ("512m", 2**29), ("0", 0), ("123456", 123456)]
)
def test_sizes_are_bytes_or_have_a_unit(value: str, size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_VRAM_BUDGET", value)
    assert read_settings().vram_budget == size_bytes


@pytest.mark.parametrize("value", ["5 gb", "five", "-5g", "5k", "g"])
def test_what_is_no_size_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_VRAM_BUDGET", value)
    with pytest.raises(SettingsError, match=f"^VISCPM_VRAM_BUDGET={value}: no size; allowed are bytes, or a number"):
        read_settings()


def test_lists_are_separated_by_commas_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_MODELS", "paint, chat,paint")
    monkeypatch.setenv("VISCPM_FETCH_PORTS", "80, 8443")
    monkeypatch.setenv("VISCPM_FETCH_ALLOWED_NETWORKS", "10.0.0.0/8,fd00::/8")
    monkeypatch.setenv("VISCPM_FETCH_ALLOWED_HOSTS", "x.org,::1,under_score")
    monkeypatch.setenv("VISCPM_PORT", "9000")
    settings = read_settings(port=9001)
    assert settings.models == ("paint", "chat") and settings.fetch_ports == (80, 8443)
    assert settings.fetch_allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.fetch_allowed_hosts == ("x.org", "::1", "under_score")
    assert settings.port == 9001


@pytest.mark.parametrize(
    ("host", "auth", "is_open"),
    [
        ("127.0.0.1", "auto", True),
        ("127.9.9.9", "auto", True),
        ("::1", "auto", True),
        ("localhost", "auto", True),
        ("0.0.0.0", "auto", False),
        ("::", "auto", False),
        ("localhost.example.org", "auto", False),
        ("", "auto", False),
        ("0.0.0.0", "off", True),
        ("127.0.0.1", "on", False),
    ],
)
def test_who_can_be_reached_from_elsewhere_is_not_open(host: str, auth: str, is_open: bool) -> None:
    assert Settings(host=host, auth=auth).is_open is is_open  # type: ignore[arg-type]


def test_what_is_read_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_workers_are_needed_for_the_models_and_for_closed_screens() -> None:
    assert Settings(models=("chat",), safety="on").kinds == ("chat", "safety")
    assert Settings(models=("chat", "paint"), safety="off").kinds == ("chat", "paint")


def test_limits_are_each_kinds_own() -> None:
    settings = Settings(
        chat_deadline_s=1, paint_deadline_s=2, safety_deadline_s=3, queue_size=4, safety_queue_size=5, retention_s=600
    )
    assert [settings.deadline_s(kind) for kind in ("chat", "paint", "safety")] == [1, 2, 3]  # type: ignore[arg-type]
    assert [settings.slots(kind) for kind in ("chat", "paint", "safety")] == [4, 4, 5]  # type: ignore[arg-type]
    assert [settings.retained_s(kind) for kind in ("chat", "paint", "safety")] == [600, 600, 30]  # type: ignore[arg-type]
    assert Settings(retention_s=10).retained_s("safety") == 10


@pytest.mark.parametrize("kind", ["chat", "paint", "safety"])
def test_engines_are_found_under_their_former_names(kind: str) -> None:
    former = {"chat": "models.chat.engine", "paint": "models.paint.engine", "safety": "service.safety_engine"}[kind]
    settings = read_settings(**{f"{kind}_engine": f"{former}:create_engine"})
    assert getattr(settings, f"{kind}_engine") == Settings.model_fields[f"{kind}_engine"].default
    assert getattr(read_settings(**{f"{kind}_engine": "mine:create"}), f"{kind}_engine") == "mine:create"


@pytest.mark.slow
def test_a_guard_is_in_a_folder_or_behind_a_server() -> None:
    with pytest.raises(ValidationError, match="the same screen twice"):
        Settings(safety_guard="folder", safety_guard_url="http://guard:8000")
    assert not Settings().asks_about_texts and not Settings(safety="off", safety_guard="folder").asks_about_texts
    for name in ("safety_prompt_checker", "safety_guard", "safety_guard_url", "safety_moderation_url"):
        assert Settings(**{name: "http://guard:8000/v1/"}).asks_about_texts  # type: ignore[arg-type]
    assert Settings(safety_guard_url="http://guard:8000/v1/").safety_guard_url == "http://guard:8000/v1"
    for url in ("guard:8000", "ftp://guard", "http://", "http://user:secret@guard", "http://guard?key=1"):
        with pytest.raises(ValidationError, match="no address of a server"):
            Settings(safety_moderation_url=url)
    assert "secret" not in repr(Settings(safety_guard_key="secret", safety_moderation_key="secret"))
