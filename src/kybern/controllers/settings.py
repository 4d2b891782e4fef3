"""What flags tell the controllers. Filled by process/controller_manager, read through runtime.Context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are kube-controller-manager's. Durations in seconds."""

    root_ca: str = ""  # PEM, published in every namespace; "" publishes nothing
    service_account_key: bytes = b""  # PEM of the key that signs legacy tokens; empty makes none
    service_account_issuer: str = "kubernetes/serviceaccount"
    allocate_node_cidrs: bool = True
    cluster_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    node_cidr_mask_size: int = 24
    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 40.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1  # nodes a second
    secondary_node_eviction_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster_size_threshold: int = 50
    terminated_pod_gc_threshold: int = 12500
    namespace_sync_period: float = 300.0
    resource_quota_sync_period: float = 300.0
    horizontal_pod_autoscaler_sync_period: float = 15.0
    pv_claim_binder_sync_period: float = 15.0
    legacy_service_account_token_clean_up_period: float = 365 * 24 * 3600.0
    cluster_signing_cert: bytes = b""  # PEM
    cluster_signing_key: bytes = b""
    cluster_signing_duration: float = 365 * 24 * 3600.0
    mirroring_max_endpoints_per_subset: int = 1000
    max_endpoints_per_slice: int = 100
