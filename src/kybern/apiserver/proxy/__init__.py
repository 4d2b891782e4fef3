"""The way from the API to kubelets, pods and services: exec, attach, port-forward, logs and proxying.

routes.py installs the handlers, pods.py and forward.py are they; targets.py, headers.py and links.py decide,
kubelet.py dials.
"""
