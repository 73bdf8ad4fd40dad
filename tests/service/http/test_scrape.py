"""Merging text expositions."""

from prometheus_client.parser import text_string_to_metric_families

from service.http.scrape import merge

OWN = """# HELP a_total Counts a.
# TYPE a_total counter
a_total{route="/x"} 1.0
# HELP plain A gauge.
# TYPE plain gauge
plain 5.0
"""
WORKER = """# HELP plain A gauge.
# TYPE plain gauge
plain 7.0
# HELP b_seconds A histogram.
# TYPE b_seconds histogram
b_seconds_bucket{le="0.1",model="c{h}at \\"x\\""} 1.0
b_seconds_bucket{le="+Inf",model="c{h}at \\"x\\""} 2.0
b_seconds_count{model="c{h}at \\"x\\""} 2.0
b_seconds_sum{model="c{h}at \\"x\\""} 0.5
# TYPE empty gauge
empty{} 1
"""


def test_families_come_once_and_workers_samples_are_labelled() -> None:
    text = merge(OWN, {'w"1': WORKER, "w2": WORKER})
    assert text.count("# TYPE plain gauge") == 1 and text.count("# HELP b_seconds") == 1
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [(sample.labels, sample.value) for sample in families["plain"].samples] == [
        ({}, 5.0),
        ({"worker": 'w"1'}, 7.0),
        ({"worker": "w2"}, 7.0),
    ]
    assert families["a"].samples[0].labels == {"route": "/x"}
    assert len(families["b_seconds"].samples) == 8
    assert families["b_seconds"].samples[0].labels == {"worker": 'w"1', "le": "0.1", "model": 'c{h}at "x"'}
    assert 'empty{worker="w2"} 1' in text


def test_nothing_to_merge_leaves_the_text_alone() -> None:
    assert merge(OWN, {}) == OWN
