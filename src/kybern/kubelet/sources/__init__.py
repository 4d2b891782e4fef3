"""Where pods come from: the API server, and files of this node."""
