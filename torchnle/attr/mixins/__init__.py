"""Methods of `LanguageAttribution` in modules of their own (explain, concepts, words, report), and audits."""
