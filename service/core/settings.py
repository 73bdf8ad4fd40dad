"""Every VISCPM_* variable: its default, unit and cross-checks. Read once per process by `read_settings`."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.jobs import Kind, Model, Offload, OnOffAuto, Quantization
from safety.text.guards.named import GuardName
from service.core.environment.env_file import env_file
from service.core.logs import LogFormat
from service.core.redis_url import parse_redis_url
from service.core.setting_types import (
    LIST,
    Aliases,
    ByteSize,
    Colour,
    Devices,
    ExistingFile,
    Hosts,
    Networks,
    Origins,
    Port,
    PublicUrl,
    ServerUrl,
    WebhookSecret,
)

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
MetadataKind = Literal["text", "xmp", "exif", "aigc"]

_MIB = 2**20
_LONGEST_WEBHOOK_WAIT_S = 3600.0
# Until 0.2: where engines were before, for environments that name them
_MOVED_ENGINES = {
    "models.chat.engine:create_engine": "models.engines.chat.engine:create_engine",
    "models.paint.engine:create_engine": "models.engines.paint.engine:create_engine",
    "service.safety_engine:create_engine": "service.worker.safety_engine:create_engine",
}
PREFIX = "VISCPM_"
# May hold a password: errors do not show them
_SECRET = ("redis_url", "api_key", "webhook_secret", "safety_guard_key", "safety_moderation_key")


class SettingsError(Exception):
    """The environment asks for something impossible; the message is one line."""


class Settings(BaseSettings):
    """What every role reads. Names are the variables' without VISCPM_; units end the name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    # Where things are
    env_file: str = "viscpm.env"  # of variables that the environment does not set (environment/env_file.py)
    redis_url: str = Field("", repr=False)  # empty: `viscpm serve` starts an embedded server
    redis_ca_file: ExistingFile = ""  # PEM files of TLS; empty: the system's authorities
    redis_cert_file: ExistingFile = ""  # what the server is shown of this client
    redis_key_file: ExistingFile = ""  # empty: the key is in the same file
    redis_prefix: str = Field("viscpm", pattern=r"^[A-Za-z0-9_.:-]{1,64}$")  # begins every key
    data_dir: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*$")  # prefix under which clients see the API
    public_url: PublicUrl = ""  # what clients see before all paths, the prefix included; in addresses of pictures
    trusted_proxies: Networks = ()  # whose X-Forwarded-… count
    cors_origins: Origins = ()  # of pages that may ask; *: of any
    keep_alive_s: float = Field(75.0, gt=0, le=86_400)  # of an idle connection; longer than any proxy in front keeps it
    api_processes: int = Field(1, ge=1, le=64)  # of `viscpm serve`; they share one port
    embedded_max_memory_bytes: int = Field(4096 * _MIB, ge=0)  # of the embedded server; 0: no limit
    auth: Literal["auto", "on", "off"] = "auto"  # whether requests need an API key; auto: not on a loopback address
    key_cache_s: float = Field(5.0, ge=0, le=300)  # for which an API process believes what it knows of a key
    url: str = ""  # of the service that commands ask; empty: the host and port of this one
    api_key: str = Field("", repr=False)  # that they present
    models: Annotated[tuple[Model, ...], *LIST] = ("chat", "paint")
    model_aliases: Aliases = (  # names of the models on /v1 beside their own
        "viscpm-chat=chat",
        "viscpm-chat-vision=chat",
        "gpt-4o=chat",
        "gpt-4o-mini=chat",
        "viscpm-paint=paint",
        "gpt-image-1=paint",
        "dall-e-3=paint",
        "dall-e-2=paint",
    )
    page: Literal["on", "off"] = "on"  # for people, at / and /ui, and /docs
    a1111: Literal["on", "off"] = "off"  # the routes of AUTOMATIC1111's API that its clients need
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "text"

    # Models. Empty checkpoint: the bundled one (models/checkpoints/bundled.py).
    chat_checkpoint: str = ""
    chat_vocab: str = ""
    chat_device: str = "cpu"
    chat_devices: Devices = ()  # that share one model, or are shared out among the workers; empty: chat_device
    chat_dtype: Dtype = "auto"
    chat_quantization: Quantization = "off"  # of the language model, while it is loaded
    chat_max_jobs: int = Field(64, ge=1, le=1024)  # a cap: the pool of keys and values decides
    chat_kv_bytes: int = Field(0, ge=0)  # of that pool; 0: what the device has left
    chat_memory_utilization: float = Field(0.9, gt=0, le=1)  # of a GPU, weights included, where the former is 0
    chat_workers: int = Field(1, ge=0, le=64)
    chat_engine: str = "models.engines.chat.engine:create_engine"
    paint_checkpoint: str = ""
    paint_vocab: str = ""
    paint_device: str = "cpu"
    paint_dtype: Dtype = "auto"
    paint_quantization: Quantization = "off"
    paint_max_jobs: int = Field(8, ge=1, le=64)  # as far as memory goes
    paint_step_cache: Literal["off", "2", "3"] = "off"  # one step in so many runs the whole UNet
    paint_workers: int = Field(1, ge=0, le=64)
    paint_engine: str = "models.engines.paint.engine:create_engine"
    paint_vae: str = ""
    paint_reranker: str = ""
    paint_reranker_english: str = ""
    paint_steps_offset: Literal[0, 1] = 0
    fold_traditional: OnOffAuto = "auto"  # characters to simplified ones, for the models; auto: as they were trained
    device_sharing: Literal["off", "turns"] = "off"  # turns: chat and paint workers have their device one at a time
    device_lock_dir: str = ""  # by which they take turns; empty: a folder of this user's own
    device_turn_s: float = Field(10.0, gt=0, le=3600)  # that one keeps it while another one waits
    idle_unload_s: float = Field(300.0, ge=0)  # that one keeps it without work
    device_bytes: int = Field(0, ge=0)  # of its memory that they may take; 0: all
    vram_budget: ByteSize = 0  # of a worker's device; 0: no plan is made, what is not set stays as it is by default
    offload: Offload = "off"  # where the language model's layers are while they do not compute
    threads: int = Field(0, ge=0, le=256)  # torch threads of a worker; 0: its share of the cores (cpu_quota.py)
    host_workers: int = Field(1, ge=1, le=64)  # that share the cores of a worker's machine

    # Safety gate. Empty folders and addresses: the bundled image screens, and rules alone for text.
    safety: Literal["on", "off"] = "on"
    safety_policy: str = ""  # YAML file; empty: safety/policy.yaml
    safety_image_checker: str = ""  # folder of the release's CompVis checker
    safety_prompt_checker: str = ""  # folder of the release's BERT classifier of Chinese prompts
    safety_prompt_checker_label: str = Field("LABEL_1", min_length=1)  # its unsafe one
    safety_image_classifier: str = ""  # folder or ONNX file of any image classifier, whose labels the policy knows
    safety_device: str = "cpu"
    safety_guard: str = ""  # folder of a guard model, which a safety worker runs
    safety_guard_url: ServerUrl = ""  # of a server that runs one: chat completions
    safety_guard_adapter: GuardName = "qwen3guard"  # the family of either
    safety_guard_model: str = ""  # name under which the server has it; empty: as published
    safety_guard_key: str = Field("", repr=False)
    safety_guard_device: str = ""  # of the folder's; empty: safety_device
    safety_guard_dtype: Dtype = "auto"
    safety_guard_batch_tokens: int = Field(4096, ge=256)  # of one forward pass: its memory
    safety_moderation_url: ServerUrl = ""  # of a server of /v1/moderations
    safety_moderation_model: str = ""
    safety_moderation_key: str = Field("", repr=False)
    safety_max_jobs: int = Field(16, ge=1, le=256)  # judged as one batch
    safety_workers: int = Field(1, ge=0, le=64)
    safety_engine: str = "service.worker.safety_engine:create_engine"
    safety_queue_size: int = Field(256, ge=1, le=100_000)
    safety_deadline_s: float = Field(10.0, gt=0)  # for one verdict; then the answer is 503
    safety_audit_file: str = ""  # JSON lines; empty: none
    safety_audit_required: bool = False  # a verdict that cannot be written there does not count

    # Admission and intake
    queue_size: int = Field(64, ge=1, le=100_000)  # slots of each model: queued and running jobs together
    slot_lease_s: float = Field(30.0, gt=0)  # a slot whose job was never submitted ends as failed after this
    max_body_bytes: int = Field(20 * _MIB, ge=1024)
    max_image_px: int = Field(50_000_000, ge=1)
    image_background: Colour = "#ffffff"  # #rrggbb: what transparent pixels show
    max_question_chars: int = Field(8192, ge=1)
    max_prompt_chars: int = Field(2048, ge=1)
    strict_pictures: bool = False  # on /v1, refuse a talk with another picture instead of passing over it
    max_pixel_steps: int = Field(0, ge=0)  # candidates x height x width x steps of a painting; 0: 8 default requests
    body_timeout_s: float = Field(30.0, gt=0)
    decode_threads: int = Field(2, ge=1, le=32)
    decode_limit_s: float = Field(20.0, gt=0)  # CPU time for one picture
    fetch_images: bool = False  # http(s) URLs in `image`
    fetch_timeout_s: float = Field(10.0, gt=0)
    fetch_ports: Annotated[tuple[Port, ...], *LIST] = (80, 443)
    fetch_allowed_hosts: Hosts = ()  # with all below them; empty: any
    fetch_denied_hosts: Hosts = ()
    fetch_allowed_networks: Networks = ()  # besides public ones
    fetch_denied_networks: Networks = ()

    # Labels on what is painted
    label_metadata: Annotated[tuple[MetadataKind, ...], *LIST] = ("text", "xmp", "exif", "aigc")
    label_visible: Literal["off", "auto", "zh", "en"] = "off"  # auto: by the prompt's language
    label_producer: str = Field("VisCPM", pattern=r'^[^\x00-\x1f\x7f-\x9f"\\]{1,64}$')  # AIGC's ContentProducer
    c2pa_key_file: ExistingFile = ""  # PEM, with which content credentials are signed; empty: there are none
    c2pa_cert_file: ExistingFile = ""  # PEM, the certificate of that key first, then those above it

    # Jobs
    chat_deadline_s: float = Field(300.0, gt=0)
    paint_deadline_s: float = Field(600.0, gt=0)
    retention_s: int = Field(600, ge=1)
    batch_max_lines: int = Field(50_000, ge=1, le=1_000_000)  # requests of one batch
    batch_jobs: int = Field(4, ge=0, le=64)  # of batches at once, in one API process; 0: others run them
    max_watchers: int = Field(16, ge=1, le=10_000)  # streams of one job's events in one API process, its own aside
    webhook_secret: WebhookSecret = Field("", repr=False)  # with which calls to a callback_url are signed; empty: none
    webhook_tries: int = Field(8, ge=1, le=20)  # until a receiver has accepted it
    webhook_retry_s: float = Field(5.0, gt=0, le=3600)  # before the second try; doubled for each further one
    webhook_timeout_s: float = Field(10.0, gt=0, le=60)  # of one try
    max_deliveries: int = Field(3, ge=1, le=20)
    lease_s: float = Field(15.0, gt=0)
    lease_renew_s: float = Field(5.0, gt=0)
    stall_s: float = Field(30.0, gt=0)  # one engine step longer than this: the worker's leases are not renewed
    heartbeat_s: float = Field(2.0, gt=0)
    heartbeat_expiry_s: float = Field(15.0, gt=0)
    redis_outage_s: float = Field(30.0, gt=0)  # without a write that Redis takes for this long, waiting requests end
    no_worker_s: float = Field(30.0, gt=0)  # without any worker of its model for this long, a job in hand fails
    drain_s: float = Field(30.0, ge=0)
    drain_notice_s: float = Field(0.0, ge=0)  # the part of drain_s in which an API says not ready, and takes jobs yet
    sweep_s: float = Field(2.0, gt=0)

    # Kept in Redis
    usage_days: int = Field(90, ge=1, le=3660)  # for which it can be asked what an API key has used
    conversation_ttl_s: int = Field(86_400, ge=1)
    conversation_bytes: int = Field(1024 * _MIB, ge=_MIB)  # of all; those used longest ago make room
    conversation_max_turns: int = Field(200, ge=1)
    vision_cache_bytes: int = Field(256 * _MIB, ge=0)
    vision_cache_ttl_s: int = Field(86_400, ge=1)
    verdict_cache_bytes: int = Field(16 * _MIB, ge=0)
    verdict_cache_ttl_s: int = Field(86_400, ge=1)
    image_url_bytes: int = Field(256 * _MIB, ge=0)  # of pictures that were answered as a url; 0: no such answers
    image_url_ttl_s: int = Field(3600, ge=1)
    file_bytes: int = Field(512 * _MIB, ge=0)  # of all files of batches, results included; 0: no files, no batches
    tenant_file_bytes: int = Field(256 * _MIB, ge=0)  # of those of one tenant
    file_ttl_s: int = Field(604_800, ge=60)  # of a file, and of a batch that has ended

    # Metrics of a worker process; 0: a free port
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = Field(0, ge=0, le=65535)

    # The reference's variable for low-memory inference, such as "1g": of the device, for the language model's layers
    cuda_memory_cpmbee_max: str = Field("", validation_alias="CUDA_MEMORY_CPMBEE_MAX")

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if url:
            parse_redis_url(url)
        return url

    @field_validator("chat_engine", "paint_engine", "safety_engine")
    @classmethod
    def _follow_moved_engines(cls, name: str) -> str:
        return _MOVED_ENGINES.get(name, name)

    @field_validator("cuda_memory_cpmbee_max")
    @classmethod
    def _check_cpmbee_max(cls, value: str) -> str:
        if value and not re.fullmatch(r"0*[1-9]\d*[gG]", value):
            raise ValueError("must be a whole number of GiB followed by g or G, such as 12g")
        return value

    @model_validator(mode="after")
    def _cross_check(self) -> Self:
        if not self.models:
            raise ValueError("VISCPM_MODELS is empty: it must name chat, paint or both")
        self._check_tls_files()
        if bool(self.c2pa_key_file) != bool(self.c2pa_cert_file):
            given, lacks = ("KEY", "CERT") if self.c2pa_key_file else ("CERT", "KEY")
            raise ValueError(f"VISCPM_C2PA_{given}_FILE is set and VISCPM_C2PA_{lacks}_FILE is not: both are needed")
        if self.cuda_memory_cpmbee_max and "offload" in self.model_fields_set and self.offload == "off":
            raise ValueError(
                f"CUDA_MEMORY_CPMBEE_MAX={self.cuda_memory_cpmbee_max} limits layers that come and go, and "
                "VISCPM_OFFLOAD=off keeps them on the device: unset one of them"
            )
        if self.lease_renew_s * 2 > self.lease_s:
            raise ValueError(
                f"VISCPM_LEASE_RENEW_S={self.lease_renew_s:g} must be at most half of VISCPM_LEASE_S={self.lease_s:g}, "
                "or one lost renewal gives a healthy worker's jobs away"
            )
        if self.safety_guard and self.safety_guard_url:
            raise ValueError(
                "VISCPM_SAFETY_GUARD and VISCPM_SAFETY_GUARD_URL name the same screen twice: unset one of them"
            )
        if self.safety_audit_required and not self.safety_audit_file:
            raise ValueError("VISCPM_SAFETY_AUDIT_REQUIRED=true needs VISCPM_SAFETY_AUDIT_FILE, which is empty")
        if self.heartbeat_s * 2 > self.heartbeat_expiry_s:
            raise ValueError(
                f"VISCPM_HEARTBEAT_S={self.heartbeat_s:g} must be at most half of "
                f"VISCPM_HEARTBEAT_EXPIRY_S={self.heartbeat_expiry_s:g}"
            )
        if self.drain_notice_s > self.drain_s:
            raise ValueError(
                f"VISCPM_DRAIN_NOTICE_S={self.drain_notice_s:g} is the first part of VISCPM_DRAIN_S={self.drain_s:g} "
                "and cannot be longer"
            )
        return self

    def _check_tls_files(self) -> None:
        files = ("redis_ca_file", "redis_cert_file", "redis_key_file")
        given = [f"VISCPM_{name.upper()}" for name in files if getattr(self, name)]
        if given and not (self.redis_url and parse_redis_url(self.redis_url).has_tls):
            raise ValueError(f"{given[0]} is of no use: VISCPM_REDIS_URL does not begin with rediss")
        if self.redis_key_file and not self.redis_cert_file:
            raise ValueError("VISCPM_REDIS_KEY_FILE is set and VISCPM_REDIS_CERT_FILE is not: both are needed")

    @property
    def is_loopback(self) -> bool:
        """Whether the API listens where this machine alone can ask."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether requests need no API key."""
        return self.auth == "off" or (self.auth == "auto" and self.is_loopback)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What workers are needed for."""
        return (*self.models, "safety") if self.safety == "on" else self.models

    @property
    def asks_about_texts(self) -> bool:
        """Whether texts are judged by more than the rules, which takes its time."""
        screens = (self.safety_prompt_checker, self.safety_guard, self.safety_guard_url, self.safety_moderation_url)
        return self.safety == "on" and any(screens)

    @property
    def cpmbee_max_bytes(self) -> int:
        """What CUDA_MEMORY_CPMBEE_MAX says, as the release reads it; 0: nothing."""
        return int(self.cuda_memory_cpmbee_max[:-1]) * 2**30 if self.cuda_memory_cpmbee_max else 0

    def webhook_wait_s(self, number: int) -> float:
        """What follows the try of that number, from 1 on, before the next one."""
        return min(_LONGEST_WEBHOOK_WAIT_S, self.webhook_retry_s * 2.0 ** (number - 1))

    @property
    def webhook_window_s(self) -> float:
        """The time that all tries may take, for which their job's answer is kept."""
        waits_s = sum(map(self.webhook_wait_s, range(1, self.webhook_tries)))
        return 1.2 * waits_s + self.webhook_tries * (self.webhook_timeout_s + 2 * self.sweep_s + self.lease_s)

    def deadline_s(self, kind: Kind) -> float:
        by_kind = {"chat": self.chat_deadline_s, "paint": self.paint_deadline_s, "safety": self.safety_deadline_s}
        return by_kind[kind]

    def retained_s(self, kind: Kind) -> int:
        """How long a finished job can be read; nobody comes back for a screening."""
        return min(30, self.retention_s) if kind == "safety" else self.retention_s

    def slots(self, kind: Kind) -> int:
        """How many jobs may be queued or running."""
        return self.safety_queue_size if kind == "safety" else self.queue_size


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment, then from the env file; `overrides` (command line flags) win.

    Raises:
        SettingsError: naming each bad variable, what it holds and what is allowed, in one line.
    """
    try:
        return Settings(_env_file=env_file(os.environ), _env_file_encoding="utf-8", **overrides)  # type: ignore[arg-type]
    except FileNotFoundError as error:
        raise SettingsError(str(error)) from None
    except ValidationError as error:
        raise SettingsError("; ".join(wrong_settings(error))) from None


def wrong_settings(error: ValidationError) -> list[str]:
    """A line for each: variable, what it holds, what is allowed."""
    return [_describe(item["loc"], item["msg"], item["input"]) for item in error.errors()]


def _describe(location: tuple[int | str, ...], message: str, value: object) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0])
    variable = name if name.isupper() else f"VISCPM_{name.upper()}"
    return f"{variable} {message}" if name in _SECRET else f"{variable}={value}: {message}"
