"""Methods of `LanguageAttribution` that are doors to a method of its own folder: explain, words, audit."""
