"""The `lean` command over the wheel's shared libraries: `python lean_command.py FOLDER ARGUMENT...`.

Always a process of its own: `lean_main` ends the process it runs in.
"""

import ctypes
import os
import sys


def main() -> None:  # pragma: no cover - runs in child processes only
    folder, arguments = sys.argv[1], sys.argv[2:]
    library = None
    for name in ("libInit_shared.so", "libleanshared_2.so", "libleanshared_1.so", "libleanshared.so"):
        library = ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)  # noqa: PTH118
    assert library is not None
    encoded = [b"lean", *(argument.encode() for argument in arguments)]
    vector = (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)
    status = library.lean_main(len(encoded), vector)
    ctypes.CDLL(None).fflush(None)  # some commands return without flushing what they printed
    os._exit(status & 0xFF)


if __name__ == "__main__":  # pragma: no cover
    main()
