"""The Lean kernel, driven directly: reads statements, has declarations checked, reports what was accepted.

    python -I -S kernel_child.py FOLDER MODULES HEARTBEATS MEGABYTES

Parsing and elaborating a line of Lean costs a hundred times what its kernel check does. Our statements
need neither: they are constructor terms in prefix notation. So this process loads the wheel's library,
imports our compiled modules as `lean` does, builds each theorem's two terms through the constructors that
the library exports, and hands them to `lean_add_decl`, the function behind every `theorem` command: full
type checking, no option of which could turn it off.

A request is a line `chunk N` and N lines `name TAB attempts TAB hypotheses TAB sides`; a reply is one line
`name TAB theorem TAB axioms` for the first attempt that was accepted, or `name TAB - TAB reason`. The
axiom report is the claim's own: the stored declaration is read back from the new environment, must be a
theorem of exactly the statement asked for, and every constant in it must be of the vocabulary, whose
reports by `#print axioms` were empty when the library was compiled (`toolchain` refuses it otherwise).

Standard library only, and a process of its own always: what Lean allocates, prints or crashes stays here.
Objects follow the conventions of `lean.h`: a header of reference count, size, field count and tag, then
the fields; small scalars are odd pointers; a function consumes the references it is not lent.
"""

import ctypes
import os
import re
import sys
from ctypes import c_char_p, c_int32, c_size_t, c_uint8, c_uint32, c_void_p
from typing import Any

TERM, RELATION, HYPOTHESES = "Draftproof.Term.", "Draftproof.Relation.", "Draftproof.Hypotheses."
ARITIES = {
    **{TERM + name: 1 for name in ("num", "var", "neg", "abs", "factorial", "sqrt", "floor", "ceil")},
    **{TERM + name: 2 for name in ("ratio", "add", "sub", "mul", "div", "pow", "binomial", "gcd", "lcm", "mod")},
    **{RELATION + name: 0 for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    RELATION + "about": 2,
    HYPOTHESES + "nothing": 0,
    HYPOTHESES + "given": 3,
}
"""Every constructor that a statement may be made of."""
THEOREMS = ("proved", "refuted", "undefined", "contradicted")
VOCABULARY = (
    *ARITIES,
    *(f"Draftproof.{name}" for name in (*THEOREMS, "Holds", "Contradictory")),
    *("Not", "Bool", "Bool.true", "Eq.refl"),
)
"""Every constant that a declaration of ours may mention."""
_SHORT = {name.rsplit(".", 1)[1]: name for name in ARITIES}
_TOKEN = re.compile(r"[()]|[a-z]+|[0-9]+")
_TRUE, _FALSE = "(add (num 1) (num 1)) eq (num 2)", "(add (num 1) (num 1)) eq (num 3)"
_MISMATCH = range(2, 12)
"""Kernel exceptions that say that a term does not have the type asked for."""
_LIMITS = {13: "timeout", 14: "out_of_memory", 15: "recursion_too_deep", 16: "interrupted"}


class Kernel:  # pragma: no cover - runs in child processes only; the tests talk to the process
    """One imported environment, to which every claim is added on its own and then forgotten."""

    def __init__(self, folder: str, modules: str, heartbeats: int, megabytes: int) -> None:
        for name in ("libInit_shared.so", "libleanshared_2.so", "libleanshared_1.so", "libleanshared.so"):
            self.library = ctypes.CDLL(f"{folder}/{name}", mode=ctypes.RTLD_GLOBAL)
        os.environ["LEAN_PATH"] = modules
        obj = c_void_p
        self._function("lean_initialize", None)()
        self._function("lean_io_mark_end_initialization", None)()
        self._function("_ZN4lean14set_max_memoryEm", None, c_size_t)(megabytes << 20)
        self._allocate = self._function("lean_alloc_object", obj, c_size_t)
        self._free = self._function("lean_dec_ref_cold", None, obj)
        self._string = self._function("lean_mk_string", obj, c_char_p)
        self._name = self._function("lean_name_mk_string", obj, obj, obj)
        self._big = self._function("lean_cstr_to_nat", obj, c_char_p)
        self._literal = self._function("l_Lean_mkRawNatLit", obj, obj)
        self._application = self._function("lean_expr_mk_app", obj, obj, obj)
        self._theorem = self._function("lean_mk_theorem_val", obj, obj, obj, obj, obj, obj)
        self._reset_heartbeats = self._function("_ZN4lean15reset_heartbeatEv", None)
        self._add = self._function("lean_add_decl", obj, obj, c_size_t, c_size_t, obj, obj)
        self._find = self._function("lean_environment_find", obj, obj, obj)
        self._same = self._function("lean_expr_eqv", c_uint8, obj, obj)
        self._constants_of = self._function("l_Lean_Expr_getUsedConstants", obj, obj)
        self._heartbeats = heartbeats * 1000
        self._environment = self._import("Draftproof.Claims")
        make = self._function("lean_expr_mk_const", obj, obj, obj)
        one = self._function("lean_level_mk_succ", obj, obj)(self._function("lean_level_mk_zero", obj, obj)(_box(0)))
        self._known: set[int] = set()
        self._constant = {}
        for name in VOCABULARY:
            lean_name = self._kept(self.name(name))
            self._known.add(lean_name)
            levels = self._constructor(1, one, _box(0)) if name == "Eq.refl" else _box(0)
            self._constant[name] = self._kept(make(lean_name, levels))
        self._reflexivity = self._kept(self._apply("Eq.refl", self._constant["Bool"], self._constant["Bool.true"]))

    def settle(self, name: str, attempts: str, hypotheses: str, sides: str) -> tuple[str, str]:
        """The first theorem of `attempts` that settles the claim and its axioms, or `-` and the reason."""
        (given,) = self.parse(hypotheses)
        left, relation, right = self.parse(sides)
        parts = (given, left, relation, right)
        try:
            reason = "undecided"
            for attempt in attempts.split(","):
                statement, proof = self._theorem_terms(attempt, parts)
                accepted, reason = self._check(f"{name}_{attempt}", statement, proof)
                if accepted:
                    return attempt, reason
                if reason != "undecided":
                    break
            return "-", reason
        finally:
            for part in parts:
                self._drop(part)

    def _theorem_terms(self, attempt: str, parts: tuple[int, ...]) -> tuple[int, int]:
        """What one of our theorems states of a claim, and the term that proves it if its test comes out true."""
        arguments = parts[:1] if attempt == "contradicted" else parts
        for part in arguments:
            self._kept(part, 2)
        if attempt == "contradicted":
            statement = self._apply("Draftproof.Contradictory", *arguments)
        else:
            statement = self._apply("Draftproof.Holds", *arguments)
            if attempt != "proved":
                statement = self._apply("Not", statement)
        return statement, self._apply(f"Draftproof.{attempt}", *arguments, self._reflexivity)

    def parse(self, text: str) -> list[int]:
        """The terms that a text in prefix notation stands for. Raises ValueError for any other text."""
        tokens = _TOKEN.findall(text)
        if sum(map(len, tokens)) != len(text) - text.count(" "):
            raise ValueError("not a statement of ours")
        stack: list[int | str | None] = []
        for token in reversed(tokens):
            if token == ")":  # noqa: S105
                stack.append(None)
            elif token == "(":  # noqa: S105
                head = stack.pop()
                arguments: list[int] = []
                while (argument := stack.pop()) is not None:
                    arguments.append(self._closed(argument))
                if not isinstance(head, str) or len(arguments) != ARITIES[head] or not arguments:
                    raise ValueError("wrong number of arguments")
                stack.append(self._apply(head, *arguments))
            elif token.isdigit():
                stack.append(self._literal(_box(int(token)) if len(token) < 19 else self._big(token.encode())))
            else:
                stack.append(_SHORT[token])
        return [self._closed(item) for item in reversed(stack)]

    def _closed(self, item: "int | str | None") -> int:
        if isinstance(item, str):
            if ARITIES[item]:
                raise ValueError("a constructor without its arguments")
            return self._constant[item]
        if item is None:
            raise ValueError("unbalanced")
        return item

    def _check(self, name: str, statement: int, proof: int) -> tuple[bool, str]:
        """Have the kernel check one theorem, and read it back."""
        lean_name = self._kept(self.name(name), 3)
        self._kept(statement, 2)
        value = self._theorem(lean_name, _box(0), statement, proof, self._constructor(1, lean_name, _box(0)))
        declaration = self._constructor(2, value)
        self._kept(self._environment, 1)
        self._reset_heartbeats()  # the kernel compares the thread's total with the limit
        result = self._add(self._environment, self._heartbeats, 0, declaration, _box(0))
        try:
            if _tag(result) != 1:
                return False, _failure(_field(result, 0))
            return self._read_back(_field(result, 0), lean_name, statement)
        finally:
            self._drop(result)
            self._drop(declaration)
            self._drop(statement, 2)
            self._drop(lean_name, 2)

    def _read_back(self, environment: int, name: int, statement: int) -> tuple[bool, str]:
        self._kept(environment, 1)
        self._kept(name, 1)
        found = self._find(environment, name)
        try:
            info = _field(found, 0) if not found & 1 else _box(0)
            if info & 1 or _tag(info) != 2:
                return False, "not_a_theorem"
            theorem = _field(info, 0)
            stored, proof = _field(_field(theorem, 0), 2), _field(theorem, 1)
            if not self._same(stored, statement):
                return False, "another_statement"
            for expression in (stored, proof):
                self._kept(expression, 1)
                constants = self._constants_of(expression)
                size = c_size_t.from_address(constants + 8).value
                if any(c_size_t.from_address(constants + 24 + 8 * i).value not in self._known for i in range(size)):
                    return False, "unreported_constant"
                self._drop(constants)
            return True, ""
        finally:
            self._drop(found)

    def _import(self, module: str) -> int:
        """The kernel's environment after `import module`."""
        obj = c_void_p
        consume = self._function("lean_init_search_path", obj)()
        if _tag(consume) != 0:
            raise RuntimeError("no search path")
        load = self._function("l_Lean_importModules", obj, obj, obj, c_uint32, obj, c_uint8, c_uint8, c_uint8, obj)
        array = self._function("lean_mk_array", obj, obj, obj)
        # importAll = false, isExported = true, isMeta = false
        imported = self._constructor(0, self.name(module), scalars=b"\0\1\0")
        options = c_void_p.in_dll(self.library, "l_Lean_Options_empty").value
        # trust level 0, no plug-ins, keep the environment, no extensions, private data, no artifacts
        result = load(array(_box(1), imported), options, 0, array(_box(0), _box(0)), 1, 0, 2, _box(1))
        if _tag(result) != 0:
            raise RuntimeError(f"{module} cannot be imported")
        return int(self._function("lean_elab_environment_to_kernel_env", obj, obj)(_field(result, 0)))

    def name(self, dotted: str) -> int:
        name = _box(0)
        for part in dotted.split("."):
            name = self._name(name, self._string(part.encode()))
        return name

    def _apply(self, head: str, *arguments: int) -> int:
        """An application; the references to arguments of the vocabulary are never counted down to zero."""
        term = self._constant[head]
        for argument in arguments:
            term = self._application(term, argument)
        return term

    def _constructor(self, tag: int, *fields: int, scalars: bytes = b"") -> int:
        padded = scalars.ljust(-(-len(scalars) // 8) * 8, b"\0")
        size = 8 + 8 * len(fields) + len(padded)
        address = int(self._allocate(size))
        header = (1).to_bytes(4, "little") + size.to_bytes(2, "little") + bytes((len(fields), tag))
        ctypes.memmove(address, header + b"".join(field.to_bytes(8, "little") for field in fields) + padded, size)
        return address

    def _kept(self, address: int, times: int = 1 << 26) -> int:
        """Count `times` more references; by default, so many that the object outlives the process."""
        if not address & 1:
            count = c_int32.from_address(address)
            if count.value:
                count.value += times if count.value > 0 else -times
        return address

    def _drop(self, address: int, times: int = 1) -> None:
        if address & 1:
            return
        count = c_int32.from_address(address)
        if count.value > times:
            count.value -= times
        elif count.value > 0:
            count.value = 1
            self._free(address)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self.library[name]
        function.restype, function.argtypes = result, arguments
        return function


def _box(number: int) -> int:
    return (number << 1) | 1


def _tag(address: int) -> int:  # pragma: no cover
    return c_uint8.from_address(address + 7).value


def _field(address: int, index: int) -> int:  # pragma: no cover
    return c_size_t.from_address(address + 8 + 8 * index).value


def _failure(exception: int) -> str:  # pragma: no cover
    if exception & 1:
        return _LIMITS.get(exception >> 1, "kernel_error")
    return "undecided" if _tag(exception) in _MISMATCH else "kernel_error"


def main() -> None:  # pragma: no cover
    folder, modules, heartbeats, megabytes = sys.argv[1:5]
    # replies go out on a descriptor of their own; whatever Lean prints goes to stderr
    replies = os.dup(1)
    os.dup2(2, 1)
    kernel = Kernel(folder, modules, int(heartbeats), int(megabytes))
    # a kernel that cannot tell these two apart answers nothing
    if kernel.settle("dp_true", "refuted,proved", "nothing", _TRUE) != ("proved", ""):
        os._exit(2)
    if kernel.settle("dp_false", "proved", "nothing", _FALSE) != ("-", "undecided"):
        os._exit(3)
    os.write(replies, b"ready\n")
    requests = sys.stdin.buffer
    while header := requests.readline():
        chunk = [requests.readline() for _ in range(int(header.split()[1]))]
        for line in chunk:
            name, attempts, hypotheses, sides = line.decode("ascii").rstrip("\n").split("\t")
            try:
                answer, detail = kernel.settle(name, attempts, hypotheses, sides)
            except (ValueError, KeyError, IndexError):
                answer, detail = "-", "malformed"
            os.write(replies, f"{name}\t{answer}\t{detail}\n".encode("ascii"))
    os._exit(0)


if __name__ == "__main__":  # pragma: no cover
    main()
