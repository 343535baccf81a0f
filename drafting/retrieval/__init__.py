"""Corpora of text chunks and how they are searched: by words (BM25), by meaning (dense vectors), and by both."""
