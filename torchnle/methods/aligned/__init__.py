"""The map from text into features, and the translator that scores and ranks texts by it."""
