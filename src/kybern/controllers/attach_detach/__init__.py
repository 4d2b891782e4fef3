"""Attaching volumes to nodes and detaching them, where their CSI driver wants to be asked for that.

plan.py       one node: what to attach, what to detach, what to tell the kubelet: pure
reconcile.py  what is seen of pods, claims, volumes and attachments; carrying the plan out
"""

from kybern.controllers.attach_detach.reconcile import build as build
