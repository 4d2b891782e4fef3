"""CertificateSigningRequests for the signers that Kubernetes itself has: approve, sign, clear away.

Three controllers, as upstream: approve (what a kubelet may have without asking anybody), sign, clean.
rules (what each signer demands; when a request is over) -> issue (X.509)
"""
