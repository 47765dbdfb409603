"""Read a model: hooks, one forward, and the output of each layer as rows with a grid."""
