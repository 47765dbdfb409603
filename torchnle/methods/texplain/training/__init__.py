"""Train TExplain's translator by a recipe, in two stages."""
