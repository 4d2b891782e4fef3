"""Volumes: directories and files of the node that containers see."""
