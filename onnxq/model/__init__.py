"""A model as it was read: graph, file, stored weights, and what can be read off a graph."""
