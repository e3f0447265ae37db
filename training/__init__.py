"""Corpus, training and export. Needs the ``train`` extra."""
