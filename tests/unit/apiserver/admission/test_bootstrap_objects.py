from __future__ import annotations

from kybern.apiserver.admission import bootstrap_objects, built_in
from kybern.testing.objects import ObjectTable


def test_a_new_cluster_gets_namespaces_and_classes_once() -> None:
    table = ObjectTable()
    made = built_in.system_objects(table)
    assert [o.metadata.name for o in made] == [
        "default",
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "system-node-critical",
        "system-cluster-critical",
    ]
    for obj in made:
        table.put(obj)
    assert built_in.system_objects(table) == []


def test_what_aggregated_servers_need_is_written_and_kept_up_to_date() -> None:
    table = ObjectTable()
    made = bootstrap_objects.plan_authentication(table, b"CA1", b"FP", ("front-proxy-client",))
    assert made is not None
    assert made.data["client-ca-file"] == "CA1"
    assert made.data["requestheader-allowed-names"] == '["front-proxy-client"]'
    made.data["theirs"] = "x"
    table.put(made)
    assert bootstrap_objects.plan_authentication(table, b"CA1", b"FP", ("front-proxy-client",)) is None
    changed = bootstrap_objects.plan_authentication(table, b"CA2", b"FP", ("front-proxy-client",))
    assert changed is not None
    assert (changed.data["client-ca-file"], changed.data["theirs"]) == ("CA2", "x")
    assert changed.metadata.resourceVersion
