from kybern.apiserver.request import User
from kybern.machinery import feature_gates
from kybern.testing import api_server

NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


async def lines(api, *names):
    text = (await api.get("/metrics")).body.decode()
    return [line for line in text.splitlines() if line.startswith(names)]


def test_features_are_told_as_the_gates_stand():
    def of(gates):
        return api_server.run(lambda api: lines(api, "kubernetes_feature_enabled{"), options={"gates": gates})

    off = 'kubernetes_feature_enabled{name="PodCertificateRequest",stage="BETA"} '
    assert len(of(feature_gates.DEFAULT)) > 200
    assert f"{off}0" in of(feature_gates.DEFAULT)
    assert f"{off}1" in of(feature_gates.parse("PodCertificateRequest=true"))


def test_decisions_are_counted_by_authorizer():
    async def scenario(api):
        await api.as_user(NODE).get("/api/v1/services")
        await api.as_user(NODE).get("/api/v1/secrets")
        return await lines(api, "apiserver_authorization_decisions_total{")

    assert api_server.run(scenario, users=[NODE]) == [
        'apiserver_authorization_decisions_total{decision="allowed",name="node",type="Node"} 1'
    ]


def test_addresses_of_services_are_counted_by_range():
    async def scenario(api):
        gauges = ("kube_apiserver_clusterip_allocator_allocated", "kube_apiserver_clusterip_allocator_available")
        found = [await lines(api, *gauges)]
        for name, address in (("one", ""), ("headless", "None")):
            spec = {"ports": [{"port": 80}], "clusterIP": address}
            (await api.create("/api/v1/namespaces/default/services", {"metadata": {"name": name}, "spec": spec})).ok()
        found.append(await lines(api, *gauges))
        return [[float(line.split()[1]) for line in each] for each in found]

    (first, free), (second, left) = api_server.run(scenario)
    assert (first, second) == (1, 2)  # the server itself is a service
    assert free - left == 1
    assert first + free == 2**20 - 2


def test_an_api_that_cannot_be_had_is_unavailable():
    async def scenario(api):
        spec = {
            "group": "x.y",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": "default", "name": "gone"},
            "insecureSkipTLSVerify": True,
        }
        target = "/apis/apiregistration.k8s.io/v1/apiservices"
        (await api.create(target, {"metadata": {"name": "v1.x.y"}, "spec": spec})).ok()
        return await lines(api, "aggregator_unavailable_apiservice{")

    found = api_server.run(scenario)
    assert 'aggregator_unavailable_apiservice{name="v1.x.y"} 1' in found


def test_policies_are_counted_by_what_they_decide():
    rule = {"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["configmaps"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "object.metadata.name != 'bad'"}],
    }

    async def scenario(api):
        (await api.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})).ok()
        binding = {"policyName": "p", "validationActions": ["Deny", "Audit"]}
        target = POLICIES.replace("policies", "policybindings")
        (await api.create(target, {"metadata": {"name": "b"}, "spec": binding})).ok()
        for name in ("good", "bad"):
            await api.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}})
        return await lines(api, "apiserver_validating_admission_policy_check_total{")

    line = 'apiserver_validating_admission_policy_check_total{enforcement_action="%s",error_type="%s",policy="p",'
    assert api_server.run(scenario) == [
        line % (action, error) + 'policy_binding="b"} 1'
        for action, error in (("allow", "no_error"), ("audit", "invalid_error"), ("deny", "invalid_error"))
    ]


def test_ports_and_addresses_are_counted_as_they_were_asked_for():
    async def scenario(api):
        services = "/api/v1/namespaces/default/services"
        for name, spec in (
            ("one", {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "clusterIP": "10.96.3.3"}),
            ("two", {"type": "NodePort", "ports": [{"port": 80}]}),
        ):
            (await api.create(services, {"metadata": {"name": name}, "spec": spec})).ok()
        tried = {"type": "NodePort", "ports": [{"port": 80}]}
        (await api.create(f"{services}?dryRun=All", {"metadata": {"name": "three"}, "spec": tried})).ok()
        return await lines(api, "kube_apiserver_nodeport_allocator_", "kube_apiserver_clusterip_allocator_allocation_")

    assert api_server.run(scenario) == [
        'kube_apiserver_clusterip_allocator_allocation_total{cidr="10.96.0.0/12",scope="dynamic"} 1',
        'kube_apiserver_clusterip_allocator_allocation_total{cidr="10.96.0.0/12",scope="static"} 1',
        "kube_apiserver_nodeport_allocator_allocated_ports 2",
        'kube_apiserver_nodeport_allocator_allocation_total{scope="dynamic"} 1',
        'kube_apiserver_nodeport_allocator_allocation_total{scope="static"} 1',
        "kube_apiserver_nodeport_allocator_available_ports 2766",
    ]


def test_verdicts_on_pods_are_counted_as_upstream_counts_them():
    label = "pod-security.kubernetes.io/"
    good = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }

    async def scenario(api):
        labels = {f"{label}enforce": "baseline", f"{label}warn": "restricted", f"{label}warn-version": "v1.20"}
        (await api.create("/api/v1/namespaces", {"metadata": {"name": "n", "labels": labels}})).ok()
        for namespace in ("n", "default"):
            target = f"/api/v1/namespaces/{namespace}/serviceaccounts"
            await api.create(target, {"metadata": {"name": "default"}})
        for namespace, security in (("n", {}), ("n", {"privileged": True}), ("n", good), ("default", {})):
            spec = {"containers": [{"name": "a", "image": "b", "securityContext": security}]}
            pod = {"metadata": {"generateName": "p"}, "spec": spec}
            await api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
        return await lines(api, "pod_security_evaluations_total{")

    def line(decision, mode, level, version, number):
        return (
            f'pod_security_evaluations_total{{decision="{decision}",mode="{mode}",policy_level="{level}",'
            f'policy_version="{version}",request_operation="create",resource="pod",subresource=""}} {number}'
        )

    assert api_server.run(scenario) == [
        line("allow", "enforce", "baseline", "latest", 2),
        line("allow", "enforce", "privileged", "latest", 1),
        line("deny", "enforce", "baseline", "latest", 1),
        line("deny", "warn", "restricted", "v1.20", 1),
    ]


def test_expressions_are_timed_when_they_are_compiled_and_run():
    async def scenario(api):
        before = await lines(api, "apiserver_cel_")
        spec = {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": "object.metadata.name != 'x'"}],
        }
        (await api.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})).ok()
        return before, await lines(api, "apiserver_cel_")

    before, after = api_server.run(scenario)
    assert len(before) == len(after) == 2 * 14
    count = "apiserver_cel_compilation_duration_seconds_count "
    first, second = (
        next(int(line.removeprefix(count)) for line in each if line.startswith(count)) for each in (before, after)
    )
    assert second > first
