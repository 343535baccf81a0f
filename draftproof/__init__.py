"""draftproof: something cheap drafts, something stronger or provable verifies, every verdict is kept."""

__version__ = "0.1.0"
