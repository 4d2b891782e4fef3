"""The environment of a container, from all its sources."""

import pytest

from kybern.api.core_v1 import (
    ConfigMap,
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodSpec,
    ResourceFieldSelector,
    ResourceRequirements,
    Secret,
    SecretKeySelector,
    Service,
    ServicePort,
    ServiceSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet import env
from kybern.kubelet.failures import Reason, StartFailed


def pod_with(container, **spec):
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u1", labels={"app": "web"}),
        spec=PodSpec(containers=[container], serviceAccountName="robot", **spec),
    )


def build(container, *, config_maps=(), secrets=(), services=(), **spec):
    maps = {c.metadata.name: c for c in config_maps}
    hidden = {s.metadata.name: s for s in secrets}
    sources = env.Sources(
        config_map=lambda ns, name: maps.get(name) if ns == "ns" else None,
        secret=lambda ns, name: hidden.get(name) if ns == "ns" else None,
        services=services,
        pod_ips=("10.0.0.5", "fd00::5"),
        host_ips=("192.0.2.1",),
        node_name="n1",
        allocatable={"cpu": "2", "memory": "4Gi"},
    )
    return env.build(pod_with(container, **spec), container, sources)


def service(name, *ports, namespace="ns", ip="10.96.0.9"):
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ServiceSpec(clusterIP=ip, ports=[ServicePort(name=n, port=p, protocol=proto) for n, p, proto in ports]),
    )


def variable(name, value=None, **source):
    return EnvVar(name=name, value=value, valueFrom=EnvVarSource(**source) if source else None)


def test_a_value_may_refer_to_what_was_defined_before_it_and_not_after():
    found = build(Container(name="c", env=[variable("A", "1"), variable("B", "$(A)$(C)"), variable("C", "3")])).values
    assert found["B"] == "1$(C)"


def test_env_wins_over_env_from_and_both_over_services():
    container = Container(
        name="c",
        envFrom=[EnvFromSource(configMapRef=ConfigMapEnvSource(name="m"))],
        env=[variable("X", "env"), variable("DB_SERVICE_HOST", "mine")],
    )
    found = build(
        container,
        config_maps=[ConfigMap(metadata=ObjectMeta(name="m"), data={"X": "map", "Y": "map"})],
        services=[service("db", ("", 80, "TCP"))],
    ).values
    assert (found["X"], found["Y"], found["DB_SERVICE_HOST"]) == ("env", "map", "mine")
    assert found["DB_SERVICE_PORT"] == "80"


def test_env_from_takes_a_prefix_and_skips_keys_that_cannot_be_names():
    container = Container(name="c", envFrom=[EnvFromSource(prefix="1-", configMapRef=ConfigMapEnvSource(name="m"))])
    built = build(container, config_maps=[ConfigMap(metadata=ObjectMeta(name="m"), data={"a.b": "1", "ü": "2"})])
    assert built.values == {"1-a.b": "1"}
    assert built.skipped == ("ü",)


def test_fields_of_the_pod_and_its_addresses_can_be_read():
    paths = {
        "NAME": "metadata.name", "UID": "metadata.uid", "APP": "metadata.labels['app']", "NODE": "spec.nodeName",
        "SA": "spec.serviceAccountName", "IP": "status.podIP", "IPS": "status.podIPs", "HOST": "status.hostIP",
    }  # fmt: skip
    container = Container(
        name="c", env=[variable(n, fieldRef=ObjectFieldSelector(fieldPath=p)) for n, p in paths.items()]
    )
    found = build(container).values
    assert [found[n] for n in paths] == ["p", "u1", "web", "n1", "robot", "10.0.0.5", "10.0.0.5,fd00::5", "192.0.2.1"]


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", "", "1"),
        ("limits.cpu", "1m", "250"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "", str(64 << 20)),
        ("requests.cpu", "1m", "125"),
        ("requests.memory", "1Ki", "32768"),
        ("limits.ephemeral-storage", "", "0"),
    ],
)
def test_resources_are_given_in_units_of_the_divisor_rounded_up(resource, divisor, expected):
    container = Container(
        name="c",
        resources=ResourceRequirements(
            limits={"cpu": Quantity("250m"), "memory": Quantity("64Mi")},
            requests={"cpu": Quantity("125m"), "memory": Quantity("32Mi")},
        ),
        env=[
            variable("R", resourceFieldRef=ResourceFieldSelector(resource=resource, divisor=Quantity(divisor or "0")))
        ],
    )
    assert build(container).values["R"] == expected


def test_a_limit_that_is_not_set_is_what_the_node_has():
    container = Container(name="c", env=[variable("R", resourceFieldRef=ResourceFieldSelector(resource="limits.cpu"))])
    assert build(container).values["R"] == "2"


def test_a_missing_config_map_key_is_a_config_error_unless_optional():
    def one(optional):
        selector = ConfigMapKeySelector(name="m", key="k", optional=optional)
        return Container(name="c", env=[variable("X", configMapKeyRef=selector)])

    maps = [ConfigMap(metadata=ObjectMeta(name="m"), data={})]
    with pytest.raises(StartFailed) as failed:
        build(one(None), config_maps=maps)
    assert failed.value.reason is Reason.CONFIG
    assert failed.value.message == "couldn't find key k in ConfigMap ns/m"
    assert "X" not in build(one(True), config_maps=maps).values


def test_a_missing_secret_is_a_config_error_unless_optional():
    def one(optional):
        selector = SecretKeySelector(name="s", key="k", optional=optional)
        return Container(name="c", env=[variable("X", secretKeyRef=selector)])

    with pytest.raises(StartFailed) as failed:
        build(one(None))
    assert failed.value.message == 'secret "s" not found'
    assert build(one(True)).values == {}
    secret = Secret(metadata=ObjectMeta(name="s"), data={"k": b"v\xff"})
    assert build(one(None), secrets=[secret]).values["X"].encode("utf-8", "surrogateescape") == b"v\xff"


def test_services_are_told_by_host_ports_and_as_links():
    found = env.service_env([service("my-db", ("sql", 5432, "TCP"), ("m", 9, "UDP"))], "ns", links=True)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.9"
    assert found["MY_DB_SERVICE_PORT"] == "5432"
    assert found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.0.9:5432"
    assert found["MY_DB_PORT_9_UDP_PROTO"] == "udp"
    assert found["MY_DB_PORT_9_UDP_ADDR"] == "10.96.0.9"


def test_headless_services_are_not_told_and_links_can_be_switched_off():
    api = service("kubernetes", ("https", 443, "TCP"), namespace="default", ip="10.96.0.1")
    found = env.service_env([service("a", ("", 80, "TCP"), ip="None"), api], "ns", links=True)
    assert {name.split("_SERVICE")[0].split("_PORT")[0] for name in found} == {"KUBERNETES"}
    assert "A_SERVICE_HOST" not in env.service_env([service("a", ("", 80, "TCP")), api], "ns", links=False)


def test_a_service_named_kubernetes_in_the_pods_namespace_hides_the_apis():
    api = service("kubernetes", ("https", 443, "TCP"), namespace="default", ip="10.96.0.1")
    own = service("kubernetes", ("x", 1, "TCP"), ip="10.96.0.77")
    for order in ([api, own], [own, api]):
        assert env.service_env(order, "ns", links=True)["KUBERNETES_SERVICE_HOST"] == "10.96.0.77"


def test_env_files_are_read_line_by_line():
    text = "# comment\n\nA='x y'\nB=\"z\"\n C = 1 \nnonsense\nD='"
    assert env.parse_env_file(text) == {"A": "x y", "B": "z", "C": "1", "D": "'"}
