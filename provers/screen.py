"""What a proof by an outsider may look like, before Lean sees it.

A screen is no proof of innocence; the axiom report is. But some texts make an honest report worthless:
`set_option debug.skipKernelTC true` has the kernel skipped, a second command redefines what the first one
said, an unterminated comment swallows the question. So a proof is one term or one tactic block in which
no command can begin, in printable text, and with none of the words that commands are made of.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 20_000

# fmt: off
_WORDS = frozenset(
    {
        "axiom", "sorry", "admit", "unsafe", "implemented_by", "extern", "instance", "notation", "macro",
        "macro_rules", "syntax", "elab", "elab_rules", "open", "import", "namespace", "section", "attribute",
        "local", "scoped", "private", "protected", "public", "meta", "opaque", "native_decide", "run_tac",
        "run_cmd", "run_elab", "run_meta", "eval", "exit", "theorem", "lemma", "def", "abbrev", "example",
        "inductive", "structure", "class", "deriving", "variable", "universe", "mutual", "export", "include",
        "omit", "end", "initialize", "builtin_initialize", "set_option", "constant", "infix", "infixl",
        "infixr", "prefix", "postfix", "noncomputable", "partial", "nonrec", "declare_syntax_cat",
        "register_option", "unif_hint", "add_decl_doc", "sorryAx", "lcProof", "lcAny", "lcErased", "lcVoid",
        "ofReduceBool", "reduceBool", "ofReduceNat", "reduceNat", "trustCompiler", "skipKernelTC", "debug",
        "print", "check", "reduce", "synth", "where", "compile_inductive", "module", "csimp", "simproc",
        "dsimproc", "elab_stx", "binder_predicate", "infer_instance_as", "prelude",
    }
)
"""Words that begin a command, change an option, name an axiom or run code."""
# fmt: on
_WORD = re.compile(r"[^\W\d][\w'!?]*")
_PAIRS = {")": "(", "]": "[", "}": "{", "⟩": "⟨"}


def refusal(proof: str) -> str | None:
    """Why a proof text is not even tried, machine-readable; None when it may be."""
    if len(proof) > MAX_CHARACTERS:
        return "too_long"
    if not proof.strip():
        return "empty"
    try:
        proof.encode("utf-8")
    except UnicodeEncodeError:
        return "not_unicode"
    # look-alikes of a forbidden word are forbidden too: compare what they are compatible with
    if any(_unprintable(character) for character in proof):
        return "control_character"
    plain = unicodedata.normalize("NFKC", proof)
    if any(mark in plain for mark in ("--", "/-", "-/")):
        return "comment"
    if any(mark in plain for mark in ("#", "@[", "«", "»", '"', "`", "$", "%")):
        return "forbidden_character"
    if "+kernel" in plain.replace(" ", ""):
        return "forbidden_word"
    if any(word in _WORDS for word in _WORD.findall(plain.replace(".", " "))):
        return "forbidden_word"
    if any(line and not line[0].isspace() for line in proof.splitlines()[1:]):
        return "starts_in_column_0"
    return None if _balanced(plain) else "unbalanced"


def _unprintable(character: str) -> bool:
    """Everything invisible or out of order but the line end and the blank."""
    return character not in "\n " and unicodedata.category(character)[0] in "CZ"


def _balanced(text: str) -> bool:
    open_brackets: list[str] = []
    for character in text:
        if character in _PAIRS.values():
            open_brackets.append(character)
        elif character in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[character]):
            return False
    return not open_brackets
