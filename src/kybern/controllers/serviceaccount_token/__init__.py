"""Secrets of type kubernetes.io/service-account-token: fill those that were asked for, delete those without account."""

from kybern.controllers.serviceaccount_token.reconcile import TokenController, build

__all__ = ["TokenController", "build"]
