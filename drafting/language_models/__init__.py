"""Backends of `draftproof.language_model.LanguageModel`: our own engine, and servers that speak OpenAI's protocol."""
