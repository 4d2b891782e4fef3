"""Generated messages. See the README."""
