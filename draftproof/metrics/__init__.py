"""Measures of verifiers, routers and selection, from plain sequences of truths, scores and outcomes.

Nothing here knows a store, a model or a file. Inputs are checked: NaN, infinities, texts where numbers
belong and sequences of different lengths raise UsageError. A measure whose class is empty is None,
never 0 and never NaN.
"""
