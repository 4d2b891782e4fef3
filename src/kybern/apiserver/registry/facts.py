"""Small facts about how resources are written and deleted, by group_resource. Read by strategy.Strategy.

Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

# metadata.generation starts at 1 and rises with every change of anything but metadata and status.
GENERATION = frozenset(
    {
        "pods", "podtemplates", "replicationcontrollers", "deployments.apps", "replicasets.apps", "statefulsets.apps",
        "daemonsets.apps", "jobs.batch", "cronjobs.batch", "endpointslices.discovery.k8s.io",
        "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", "networkpolicies.networking.k8s.io",
        "poddisruptionbudgets.policy", "priorityclasses.scheduling.k8s.io", "deviceclasses.resource.k8s.io",
        "resourceslices.resource.k8s.io", "devicetaintrules.resource.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    }
)  # fmt: skip

# A write to status keeps labels, annotations, finalizers and owners too.
METADATA_KEPT_WITH_STATUS = frozenset(
    {
        "apiservices.apiregistration.k8s.io", "servicecidrs.networking.k8s.io", "resourceclaims.resource.k8s.io",
        "volumeattachments.storage.k8s.io", "validatingadmissionpolicies.admissionregistration.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
    }
)  # fmt: skip

# DELETE answers with the object instead of a Status.
RETURNS_DELETED = frozenset(
    {
        "pods", "podtemplates", "services", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes",
        "resourcequotas", "storageclasses.storage.k8s.io", "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io",
        "volumeattachments.storage.k8s.io", "volumeattributesclasses.storage.k8s.io",
        "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io", "deviceclasses.resource.k8s.io",
        "resourceslices.resource.k8s.io",
    }
)  # fmt: skip

# PUT needs a resourceVersion.
CONDITIONAL_UPDATE = frozenset(
    {
        "poddisruptionbudgets.policy", "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io",
        "csistoragecapacities.storage.k8s.io", "volumeattachments.storage.k8s.io", "leases.coordination.k8s.io",
        "runtimeclasses.node.k8s.io", "apiservices.apiregistration.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io", "clustertrustbundles.certificates.k8s.io",
        "podcertificaterequests.certificates.k8s.io",
    }
)  # fmt: skip

# PUT to a name that does not exist creates.
CREATE_ON_UPDATE = frozenset(
    {
        "services", "endpoints", "limitranges", "events", "events.events.k8s.io", "roles.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io", "leases.coordination.k8s.io", "runtimeclasses.node.k8s.io",
    }
)  # fmt: skip

# Dependents of these outlive them unless the client says otherwise.
ORPHANING = frozenset({"replicationcontrollers", "jobs.batch"})
# These have no dependents whatever clients say.
CHILDLESS = frozenset({"events"})
