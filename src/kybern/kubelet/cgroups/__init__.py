"""Control groups of pods, in versions 1 and 2."""
