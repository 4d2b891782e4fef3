"""One pod, brought to what its spec says: facts are seen, a plan is made, orders are applied."""
