"""The kubelet's HTTPS API: logs, exec, attach, port-forward, statistics. See README.md for the files."""
