"""The table of metrics keeps its own rules."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.metrics import METRICS, OBSERVED, PREFIX, Metrics


def test_names_follow_the_rules() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z0-9_]+", metric.name) and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_tokens")), f"{metric.name} lacks its unit"


def test_roles_share_no_family() -> None:
    """But those of every process: one scrape of an API process and workers tells them apart by a label."""
    families = [{one.name for one in text_string_to_metric_families(role_page(role))} for role in ("api", "worker")]
    shared = {f"{PREFIX}{one.name.removesuffix('_total')}" for one in METRICS if one.owner == "all"}
    assert shared and families[0] and families[1] and families[0] & families[1] == shared
    assert all(name.startswith(PREFIX) for names in families for name in names)


def role_page(role: str) -> str:
    return Metrics(role, "chat" if role == "worker" else "").render().decode()  # type: ignore[arg-type]


def test_an_engines_measures_move_their_metrics() -> None:
    owners = {metric.name: metric.owner for metric in METRICS}
    pages = {}
    for model in ("chat", "paint"):
        metrics = Metrics("worker", model)
        for name, moved in OBSERVED.items():
            if {owners[metric] for metric in moved} <= {"worker", model}:
                metrics.observe_engine(name, 3)
        pages[model] = metrics.render().decode()
    for line in (
        'viscpm_vision_tower_runs_total{model="chat"} 1.0',
        'viscpm_vision_tower_seconds_sum{model="chat"} 3.0',
        'viscpm_generation_tokens_total{model="chat"} 3.0',
        'viscpm_request_prefill_time_seconds_count{model="chat"} 1.0',
        'viscpm_prompt_tokens_total{model="chat"} 3.0',
        'viscpm_device_held{model="chat"} 3.0',
        'viscpm_device_turns_total{model="chat"} 1.0',
    ):
        assert line in pages["chat"]
    for line in ('viscpm_paint_steps_total{model="paint"} 1.0', 'viscpm_pictures_total{model="paint"} 3.0'):
        assert line in pages["paint"]
    assert "paint" not in pages["chat"] and "vision" not in pages["paint"] and "_created" not in pages["chat"]
    with pytest.raises(KeyError):
        metrics.observe_engine("not in the table", 1)


def test_worker_series_are_there_before_anything_happened() -> None:
    assert 'viscpm_vision_cache_hits_total{model="chat"} 0.0' in role_page("worker")


def test_what_is_read_can_be_forgotten_and_has_its_labels() -> None:
    metrics = Metrics("api")
    metrics.set("worker_heartbeat_age_seconds", 1.5, model="chat", worker="w1")
    metrics.set("worker_restarts_total", 2, model="chat")
    metrics.set("worker_restarts_total", 3, model="chat")
    page = metrics.render().decode()
    assert 'viscpm_worker_heartbeat_age_seconds{model="chat",worker="w1"} 1.5' in page
    assert 'viscpm_worker_restarts_total{model="chat"} 3.0' in page
    assert "# TYPE viscpm_worker_restarts_total counter" in page
    metrics.forget("worker_heartbeat_age_seconds")
    assert "worker_heartbeat_age_seconds{" not in metrics.render().decode()
    with pytest.raises(ValueError, match="has the labels"):
        metrics.set("queue_depth", 1)
