"""The map from text into features, and the translator that scores texts and names things by it."""
