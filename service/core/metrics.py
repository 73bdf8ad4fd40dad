"""Every metric of the service in one table: its kind, whose it is, its labels and its help; units end the names.

A role exports its own families and those of `all`: in one scrape of an API process and its workers, their samples are
told apart by the label `worker`. Names and buckets follow vLLM's, with the prefix `viscpm_`
(docs/operations/observability.md).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from service.core.shared_metrics import shared_collector

Role = Literal["api", "worker"]
Owner = Literal["all", "api", "worker", "chat", "paint", "safety"]  # worker: the workers of every kind
MetricKind = Literal["counter", "gauge", "histogram"]

PREFIX = "viscpm_"

# fmt: off
_REQUEST_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
_FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40)
_WAIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# fmt: on


class Metric(NamedTuple):
    name: str  # without the prefix
    kind: MetricKind
    owner: Owner
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    is_read: bool = False  # a counter that is kept in Redis and only read here; gauges always are


# fmt: off
METRICS: tuple[Metric, ...] = (
    # Every process
    Metric("task_restarts_total", "counter", "all", "Background tasks started again because they raised.", ("task",)),
    # API process: requests
    Metric("requests_total", "counter", "api", "Requests answered.", ("route", "outcome")),
    Metric("e2e_request_latency_seconds", "histogram", "api", "From the request's first byte to the answer's last.",
           ("route",), _REQUEST_S),
    Metric("time_to_first_token_seconds", "histogram", "api", "From the request to the first text of its own stream.",
           ("model",), _FIRST_TOKEN_S),
    Metric("queue_rejections_total", "counter", "api", "Requests refused before they had a slot.", ("model", "reason")),
    Metric("ignored_parameters_total", "counter", "api", "Fields of /v1 that were sent and had no effect.",
           ("parameter",)),
    Metric("batch_lines_total", "counter", "api", "Lines of batches that got their result.", ("outcome",)),
    Metric("webhooks_total", "counter", "api", "Tries to call a callback_url, by what came of them.", ("outcome",)),
    Metric("auth_refusals_total", "counter", "api", "Requests without a good API key, by what it lacked.", ("reason",)),
    Metric("jobs_cancelled_total", "counter", "api", "Jobs cancelled, by where they were.", ("model", "where")),
    Metric("safety_decisions_total", "counter", "api", "Verdicts of the safety gate.", ("stage", "verdict")),
    Metric("safety_found_total", "counter", "api", "Categories found above their threshold.", ("stage", "category")),
    Metric("safety_failures_total", "counter", "api", "Contents without a verdict; none of them passed.", ("stage",)),
    Metric("safety_audit_lost_total", "counter", "api", "Lines that could not be written to the audit file."),
    Metric("safety_latency_seconds", "histogram", "api", "One content's verdict.", ("stage",), _WAIT_S),
    Metric("safety_guard_latency_seconds", "histogram", "api", "One text's findings by a screen beside the rules.",
           ("screen",), _WAIT_S),
    Metric("verdict_cache_queries_total", "counter", "api", "Findings on pictures and texts looked for."),
    Metric("verdict_cache_hits_total", "counter", "api", "Of those, what was known or already on its way."),
    Metric("image_fetch_rejected_total", "counter", "api", "URLs that were not or could not be fetched.", ("reason",)),
    Metric("image_rejected_total", "counter", "api", "Pictures that were there and not accepted.", ("reason",)),
    Metric("conversations_dropped_total", "counter", "api", "Conversations that expired or made room.", ("reason",)),
    Metric("conversations_bytes", "gauge", "api", "What all conversations take in Redis."),
    # API process: the shared state in Redis; the same in each API process, so aggregate with max
    Metric("queue_depth", "gauge", "api", "Slots taken: queued, running and unscreened jobs.", ("model",)),
    Metric("jobs", "gauge", "api", "Jobs by accounting state; accepted is the sum of the others and of those in work.",
           ("model", "state")),
    Metric("worker_heartbeat_age_seconds", "gauge", "api", "Since a worker's last heartbeat.", ("model", "worker")),
    Metric("redis_up", "gauge", "api", "1 where this process reads the shared state, else 0."),
    Metric("worker_restarts_total", "counter", "api", "Workers started in a dead one's place.", ("model",),
           is_read=True),
    Metric("process_resident_memory_bytes", "gauge", "api", "Resident memory of the API processes of this tree."),
    # Worker: jobs
    Metric("request_queue_time_seconds", "histogram", "worker", "From the queue to the engine.", ("model",), _WAIT_S),
    Metric("jobs_started_total", "counter", "worker", "Jobs taken from the queue.", ("model",)),
    Metric("jobs_recovered_total", "counter", "worker", "Jobs taken over from a worker that lost them.", ("model",)),
    Metric("jobs_dead_lettered_total", "counter", "worker", "Jobs given up after their last delivery.", ("model",)),
    Metric("events_fenced_total", "counter", "worker", "Events refused: the job had ended or moved on.", ("model",)),
    Metric("jobs_in_hand", "gauge", "worker", "Jobs that this worker runs now.", ("model",)),
    # Worker: chat
    Metric("vision_cache_queries_total", "counter", "chat", "Image embeddings looked for.", ("model",)),
    Metric("vision_cache_hits_total", "counter", "chat", "Image embeddings found.", ("model",)),
    Metric("vision_tower_runs_total", "counter", "chat", "Pictures encoded by the vision tower.", ("model",)),
    Metric("vision_tower_seconds", "histogram", "chat", "One run of the vision tower.", ("model",), _STEP_S),
    Metric("request_prefill_time_seconds", "histogram", "chat", "Prefill of one prompt.", ("model",), _STEP_S),
    Metric("inter_token_latency_seconds", "histogram", "chat", "One decode step, of all answers.", ("model",), _STEP_S),
    Metric("num_requests_running", "gauge", "chat", "Jobs of the engine that are read or answered.", ("model",)),
    Metric("num_requests_waiting", "gauge", "chat", "Jobs of the engine that wait for memory.", ("model",)),
    Metric("num_requests_preempted", "gauge", "chat", "Jobs that gave their memory up and wait again.", ("model",)),
    Metric("kv_cache_usage_ratio", "gauge", "chat", "Share of the pool of keys and values in use.", ("model",)),
    Metric("prompt_tokens_total", "counter", "worker", "Prompt tokens read.", ("model",)),
    Metric("generation_tokens_total", "counter", "chat", "Tokens generated.", ("model",)),
    Metric("request_prompt_tokens", "histogram", "worker", "Prompt tokens of one request.", ("model",), _TOKENS),
    Metric("request_generation_tokens", "histogram", "chat", "Tokens of one answer.", ("model",), _TOKENS),
    # Worker: paint
    Metric("text_encode_seconds", "histogram", "paint", "Prompt to conditioning.", ("model",), _STEP_S),
    Metric("paint_step_seconds", "histogram", "paint", "One denoising step.", ("model",), _STEP_S),
    Metric("paint_steps_total", "counter", "paint", "Denoising steps done.", ("model",)),
    Metric("vae_decode_seconds", "histogram", "paint", "Latents to pictures.", ("model",), _STEP_S),
    Metric("rerank_seconds", "histogram", "paint", "Scoring one request's candidates.", ("model",), _STEP_S),
    Metric("pictures_total", "counter", "paint", "Pictures painted.", ("model",)),
    # Worker: safety
    Metric("safety_batch_seconds", "histogram", "safety", "All image screens over one batch.", ("model",), _STEP_S),
    Metric("safety_guard_batch_seconds", "histogram", "safety", "The guard and other text screens over one batch.",
           ("model",), _WAIT_S),
    Metric("safety_contents_total", "counter", "safety", "Contents judged by the screens.", ("model",)),
    # Worker: the process and its device
    Metric("worker_info", "gauge", "worker", "1, for the id of the worker behind an address.", ("model", "worker")),
    Metric("model_load_seconds", "gauge", "worker", "Time that loading the model took.", ("model",)),
    Metric("worker_resident_memory_bytes", "gauge", "worker", "Resident memory of the worker process.", ("model",)),
    Metric("device_held", "gauge", "worker", "1 while a worker that takes turns has its device.", ("model",)),
    Metric("device_waiting", "gauge", "worker", "1 while it has work and another worker has the device.", ("model",)),
    Metric("device_turns_total", "counter", "worker", "Turns on the device that were begun.", ("model",)),
    Metric("device_wait_seconds", "histogram", "worker", "One wait for a turn.", ("model",), _WAIT_S),
    Metric("device_transfer_seconds", "histogram", "worker", "Weights and work in progress onto the device.",
           ("model",), _WAIT_S),
    Metric("gpu_memory_used_bytes", "gauge", "worker", "Device memory in use, by all processes.", ("model", "gpu")),
    Metric("gpu_memory_reserved_bytes", "gauge", "worker", "Device memory held by this process' allocator.",
           ("model", "gpu")),
    Metric("gpu_memory_free_bytes", "gauge", "worker", "Device memory free.", ("model", "gpu")),
    Metric("gpu_utilization_ratio", "gauge", "worker", "Share of time in which the device was busy.", ("model", "gpu")),
)

# What an engine observes, and the metrics that it moves. Counters add the value, or 1 where the value is a duration;
# gauges take it.
OBSERVED: dict[str, tuple[str, ...]] = {
    "vision_cache_query": ("vision_cache_queries_total",),
    "vision_cache_hit": ("vision_cache_hits_total",),
    "vision_tower_s": ("vision_tower_seconds", "vision_tower_runs_total"),
    "prefill_s": ("request_prefill_time_seconds",),
    "decode_step_s": ("inter_token_latency_seconds",),
    "prompt_tokens": ("prompt_tokens_total", "request_prompt_tokens"),
    "generation_tokens": ("generation_tokens_total", "request_generation_tokens"),
    "text_encode_s": ("text_encode_seconds",),
    "denoise_step_s": ("paint_step_seconds", "paint_steps_total"),
    "vae_decode_s": ("vae_decode_seconds",),
    "rerank_s": ("rerank_seconds",),
    "pictures": ("pictures_total",),
    "device_held": ("device_held",),
    "device_waiting": ("device_waiting",),
    "device_wait_s": ("device_wait_seconds", "device_turns_total"),
    "device_transfer_s": ("device_transfer_seconds",),
    "screens_s": ("safety_batch_seconds",),
    "guard_s": ("safety_guard_batch_seconds",),
    "contents_judged": ("safety_contents_total",),
}
# fmt: on


class Metrics:
    """The families of one role, in a registry of their own; safe to use from several threads.

    What is counted may be shared with the other API processes of a tree (shared_metrics); what is read is this
    process' own, and as fresh as its last `set`.

    Args:
        model: what a worker serves; all its series show from the first scrape on.
    """

    def __init__(self, role: Role, model: str = "") -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, read by nobody
        self.registry = CollectorRegistry()
        self._model = model
        metrics = [metric for metric in METRICS if metric.owner in ("all", role, model)]
        self._readings = _Readings([metric for metric in metrics if _is_read(metric)])
        self._counted: dict[str, Counter | Histogram] = {
            metric.name: _family(metric, self.registry) for metric in metrics if not _is_read(metric)
        }
        self._series: dict[tuple[object, ...], Counter | Histogram] = {}  # counted before, by name and labels
        self.registry.register(self._readings)
        for metric in metrics:
            if model and metric.labels == ("model",):
                if _is_read(metric):
                    self._readings.set(metric.name, 0, {"model": model})
                else:
                    self._counted[metric.name].labels(model=model)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        series = self._series_of(name, labels)
        assert isinstance(series, Counter)
        series.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge's value, or a counter's that is kept in Redis and only read here."""
        self._readings.set(name, value, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        series = self._series_of(name, labels)
        assert isinstance(series, Histogram)
        series.observe(value)

    def forget(self, name: str) -> None:
        """Drop the series of what is read, before those that are still true are set again."""
        self._readings.forget(name)

    def observe_engine(self, name: str, value: float) -> None:
        """What an engine measured, under the engine's name for it (OBSERVED)."""
        for metric in OBSERVED[name]:
            if metric not in self._counted:
                self.set(metric, value, model=self._model)
                continue
            family = self._counted[metric].labels(model=self._model)
            if isinstance(family, Histogram):
                family.observe(value)
            else:
                family.inc(1 if name.endswith("_s") else value)

    def _series_of(self, name: str, labels: dict[str, str]) -> Counter | Histogram:
        key = (name, *labels.items())
        series = self._series.get(key)
        if series is None:
            family = self._counted[name]
            series = self._series[key] = family.labels(**labels) if labels else family
        return series

    def render(self) -> bytes:
        """The text exposition; where counts are shared, those of all processes that share them."""
        shared = shared_collector()
        if shared is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        registry.register(shared)
        registry.register(self._readings)
        return generate_latest(registry)


class _Readings(Collector):
    """Values that are read and not counted: nothing of them outlives this process, and a series can be dropped."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._values: dict[str, dict[tuple[str, ...], float]] = {metric.name: {} for metric in metrics}

    def set(self, name: str, value: float, labels: dict[str, str]) -> None:
        wanted = self._metrics[name].labels
        if labels.keys() != set(wanted):
            raise ValueError(f"{name} has the labels {wanted}, got {tuple(labels)}")
        self._values[name][tuple(labels[label] for label in wanted)] = value

    def forget(self, name: str) -> None:
        self._values[name] = {}

    def collect(self) -> Iterator[Family]:
        for name, metric in self._metrics.items():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(PREFIX + name, metric.help, labels=metric.labels)
            for labels, value in list(self._values[name].items()):
                family.add_metric(labels, value)
            yield family


def _is_read(metric: Metric) -> bool:
    return metric.kind == "gauge" or metric.is_read


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Histogram:
    name = PREFIX + metric.name
    if metric.kind == "histogram":
        return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return Counter(name, metric.help, metric.labels, registry=registry)
