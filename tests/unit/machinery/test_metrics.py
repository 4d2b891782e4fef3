import pytest
from prometheus_client.parser import text_string_to_metric_families

from kybern.machinery import metrics


def test_what_is_rendered_is_what_prometheus_reads() -> None:
    registry = metrics.Registry()
    counted = registry.counter("a_total", "Counted\nthings", ("who", "what"))
    counted.add('"quoted"\\', "new\nline", count=3)
    waited = registry.histogram("b_seconds", "Waited", ("who",), (0.005, 1))
    waited.observe(0.005, "x")
    waited.observe(7, "x")
    registry.gauge("c", "Now").set(value=1_500_000)
    registry.read("gauge", "d", "Read", ("name",), lambda: [(("z",), 2), (("a",), 1)])
    families = {f.name: f for f in text_string_to_metric_families(registry.render().decode())}
    [sample] = families["a"].samples
    assert sample.labels == {"who": '"quoted"\\', "what": "new\nline"}
    assert sample.value == 3
    values = {(s.name, s.labels.get("le")): s.value for s in families["b_seconds"].samples}
    assert values == {
        ("b_seconds_bucket", "0.005"): 1,
        ("b_seconds_bucket", "1"): 1,
        ("b_seconds_bucket", "+Inf"): 2,
        ("b_seconds_sum", None): 7.005,
        ("b_seconds_count", None): 2,
    }
    assert [s.value for s in families["c"].samples] == [1_500_000]
    assert [s.labels["name"] for s in families["d"].samples] == ["a", "z"]


def test_labels_are_in_order_of_their_names_and_numbers_as_go_writes_them() -> None:
    registry = metrics.Registry()
    registry.counter("x", "X", ("b", "a")).add("1", "2", count=1e6)
    registry.histogram("y", "Y", (), (1000, 10_000_000)).observe(3)
    assert registry.render().decode().splitlines() == [
        "# HELP x X",
        "# TYPE x counter",
        'x{a="2",b="1"} 1e+06',
        "# HELP y Y",
        "# TYPE y histogram",
        'y_bucket{le="1000"} 1',
        'y_bucket{le="1e+07"} 1',
        'y_bucket{le="+Inf"} 1',
        "y_sum 3",
        "y_count 1",
    ]


def test_a_family_nothing_was_counted_of_is_not_shown() -> None:
    registry = metrics.Registry()
    registry.counter("x", "X", ("a",))
    assert registry.render() == b""


def test_a_name_is_given_once() -> None:
    registry = metrics.Registry()
    registry.counter("x", "X")
    with pytest.raises(ValueError, match="x exists"):
        registry.gauge("x", "X")
