"""Does an answer stand in the documents it cites? Exact checks first, then a language model's opinion.

`grounding` looks for every number and name of a text, and asks a model about what passes; `quote` looks for every
quotation, character by character.
"""
