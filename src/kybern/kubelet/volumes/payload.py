"""The files of volumes whose content comes from the API: ConfigMaps, Secrets, trust bundles, the downward API.

Pure. Used by config_map, secret, downward_api and projected. Raises ValueError with the message of the event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kybern.api.certificates_v1beta1 import ClusterTrustBundle
from kybern.api.core_v1 import ClusterTrustBundleProjection, ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret
from kybern.kubelet import fields, podkeys, resources
from kybern.kubelet.volumes.contract import File, NodeView
from kybern.machinery import labels, pem

DEFAULT_MODE = 0o644

Payload = dict[str, File]


def of_config_map(found: ConfigMap | None, items: Sequence[KeyToPath], mode: int, optional: bool) -> Payload:
    """`found` None: it does not exist, which the caller has checked to be allowed."""
    if found is None:
        return {}
    entries = {key: text.encode("utf-8", "surrogateescape") for key, text in found.data.items()}
    entries.update(found.binaryData)
    return _choose(entries, items, mode, optional, "config")


def of_secret(found: Secret | None, items: Sequence[KeyToPath], mode: int, optional: bool) -> Payload:
    return {} if found is None else _choose(found.data, items, mode, optional, "secret")


def of_trust_bundles(found: Sequence[ClusterTrustBundle], wanted: ClusterTrustBundleProjection, mode: int) -> Payload:
    """One file with all authorities, each once. The order means nothing: it is that of their bytes."""
    chosen = found
    if not wanted.name:
        selector = labels.from_label_selector(wanted.labelSelector)
        chosen = [bundle for bundle in found if selector.matches(bundle.metadata.labels)]
    if not chosen and not wanted.optional:
        if wanted.name:
            raise ValueError(f'clustertrustbundle "{wanted.name}" not found')
        raise ValueError("combination of signerName and labelSelector matched zero ClusterTrustBundles")
    anchors = {block.data for bundle in chosen for block in pem.parse(bundle.spec.trustBundle.encode())}
    text = b"".join(pem.render(pem.Block("CERTIFICATE", anchor)) for anchor in sorted(anchors))
    return {wanted.path: File(text, mode)}


def _choose(entries: Mapping[str, bytes], items: Sequence[KeyToPath], mode: int, optional: bool, what: str) -> Payload:
    if not items:
        return {key: File(data, mode) for key, data in entries.items()}
    chosen: Payload = {}
    for item in items:
        if item.key not in entries:
            if optional:
                continue
            raise ValueError(f"references non-existent {what} key: {item.key}")
        chosen[item.path] = File(entries[item.key], mode if item.mode is None else item.mode)
    return chosen


def of_downward_api(
    pod: Pod, items: Sequence[DownwardAPIVolumeFile], mode: int, node: NodeView, pod_ips: Sequence[str]
) -> Payload:
    chosen: Payload = {}
    for item in items:
        own = mode if item.mode is None else item.mode
        if item.fieldRef:
            text = fields.field_text(pod, item.fieldRef.fieldPath, pod_ips, node.node_ips, node.node_name)
        elif item.resourceFieldRef:
            reference = item.resourceFieldRef
            found = podkeys.find_container(pod, reference.containerName or "")
            if found is None:
                raise ValueError(f"container {reference.containerName} not found")
            text = resources.resource_field(
                pod, found[1], reference.resource, reference.divisor or "", node.allocatable
            )
        else:
            continue
        chosen[item.path] = File(text.encode("utf-8", "surrogateescape"), own)
    return chosen
