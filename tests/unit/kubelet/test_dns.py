"""Resolvers, host names and /etc/hosts."""

import pytest

from kybern.api.core_v1 import HostAlias, Pod, PodDNSConfig, PodDNSConfigOption, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import dns
from kybern.kubelet.cri.contract import DnsConfig

CLUSTER = dns.Cluster(("10.96.0.10",), "cluster.local")
HOST = DnsConfig(("8.8.8.8",), ("example.com",), ("rotate",))


def pod(**spec):
    return Pod(metadata=ObjectMeta(name="web", namespace="ns", uid="u"), spec=PodSpec(**spec))


def test_cluster_first_searches_the_pods_namespace_then_the_hosts_domains():
    got, problem = dns.plan_dns(pod(dnsPolicy="ClusterFirst"), CLUSTER, HOST)
    assert problem == ""
    assert got == DnsConfig(
        ("10.96.0.10",),
        ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"),
        ("ndots:5",),
    )


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"dnsPolicy": "ClusterFirst", "hostNetwork": True}])
def test_the_hosts_resolver_is_used_as_it_is(spec):
    assert dns.plan_dns(pod(**spec), CLUSTER, HOST)[0] == HOST


def test_a_pod_on_the_hosts_network_may_ask_for_the_clusters_dns():
    got, _ = dns.plan_dns(pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True), CLUSTER, HOST)
    assert got.servers == ("10.96.0.10",)


def test_none_takes_only_the_pods_own_and_options_override():
    own = PodDNSConfig(
        nameservers=["1.2.3.4"],
        searches=["a.b"],
        options=[PodDNSConfigOption(name="ndots", value="2"), PodDNSConfigOption(name="edns0")],
    )
    assert dns.plan_dns(pod(dnsPolicy="None", dnsConfig=own), CLUSTER, HOST)[0] == DnsConfig(
        ("1.2.3.4",), ("a.b",), ("ndots:2", "edns0")
    )
    merged, _ = dns.plan_dns(pod(dnsPolicy="ClusterFirst", dnsConfig=own), CLUSTER, HOST)
    assert merged.servers == ("10.96.0.10", "1.2.3.4")
    assert merged.searches[-1] == "a.b"
    assert merged.options == ("ndots:2", "edns0")


def test_without_cluster_dns_the_host_is_used_and_that_is_told():
    got, problem = dns.plan_dns(pod(dnsPolicy="ClusterFirst"), dns.Cluster(), HOST)
    assert got == HOST
    assert "does not have ClusterDNS IP configured" in problem


def test_no_more_is_written_than_a_resolver_reads():
    own = PodDNSConfig(nameservers=[f"1.1.1.{n}" for n in range(5)], searches=[f"d{n}.x" for n in range(40)])
    got, _ = dns.plan_dns(pod(dnsPolicy="None", dnsConfig=own), CLUSTER, HOST)
    assert (len(got.servers), len(got.searches)) == (3, 32)


def test_resolv_conf_is_parsed_with_comments_and_the_last_search_line():
    text = "# c\nnameserver 1.1.1.1 # x\nsearch a\nsearch b c.\noptions ndots:2 rotate\nnameserver\n"
    assert dns.parse_resolv_conf(text) == DnsConfig(("1.1.1.1",), ("b", "c"), ("ndots:2", "rotate"))


def test_host_names_come_from_the_spec_and_are_cut_to_what_the_kernel_takes():
    assert dns.host_name(pod(), "cluster.local") == ("web", "")
    assert dns.host_name(pod(hostname="h", subdomain="s"), "cluster.local") == ("h", "s.ns.svc.cluster.local")
    full = dns.host_name(pod(hostname="h", subdomain="s", setHostnameAsFQDN=True), "cluster.local")[0]
    assert full == "h.s.ns.svc.cluster.local"
    long = Pod(metadata=ObjectMeta(name="a" * 62 + "-b" + "c" * 30, namespace="ns"))
    assert dns.host_name(long, "cluster.local")[0] == "a" * 62
    with pytest.raises(ValueError, match="too long"):
        dns.host_name(pod(hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True), "cluster.local")
    assert dns.host_name(pod(hostnameOverride="other.name"), "cluster.local") == ("other.name", "")


def test_the_hosts_file_names_the_pod_and_its_aliases():
    aliases = [HostAlias(ip="1.2.3.4", hostnames=["foo", "bar"])]
    text = dns.hosts_file(pod(hostAliases=aliases), ("10.0.0.5",), "h", "s.ns.svc.cluster.local", "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.5\th.s.ns.svc.cluster.local\th\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n")
    host = dns.hosts_file(pod(hostNetwork=True), (), "n", "", "127.0.0.1 localhost\n")
    assert host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
