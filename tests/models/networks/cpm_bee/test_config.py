from dataclasses import replace
from typing import Any

import pytest

from models.networks.cpm_bee.config import CPMBeeConfig


def test_published_fields_are_read_and_written_back(config: CPMBeeConfig) -> None:
    fields = {**config.to_published(), "dropout_p": 0.0}
    assert fields["position_bias_num_buckets"] == config.num_position_buckets
    assert CPMBeeConfig.from_published(fields) == config


def test_a_missing_size_is_named(config: CPMBeeConfig) -> None:
    fields = config.to_published()
    del fields["dim_ff"]
    with pytest.raises(ValueError, match="lacks dim_ff; it has dim_head, dim_model"):
        CPMBeeConfig.from_published(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"dim_model": 33}, "dim_model is 33.*even"),
        ({"num_position_buckets": 3}, "num_position_buckets is 3.*at least 4"),
        ({"max_distance": 4}, "max_distance is 4.*over 4"),
    ],
)
def test_sizes_that_no_model_has_are_refused(config: CPMBeeConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, **change)
