"""Calls from the API server to the webhooks of its users: admission, conversion, authentication, authorization, audit.

A caller asks client.WebhookClient; destination says where a configuration points to, transport keeps the
connections, failure says in kube-apiserver's words what went wrong.
"""
