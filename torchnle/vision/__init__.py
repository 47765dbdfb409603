"""Read a model: hooks, one forward, whatever a layer gives as rows with a grid."""
