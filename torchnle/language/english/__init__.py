"""English phrases: articles, nouns of captions, head nouns, WordNet."""
