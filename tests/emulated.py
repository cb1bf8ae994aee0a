"""Compiled C files for ARM (NEON), run on any machine under qemu: the library that would go into a wheel.

A call goes to the emulator with all memory it works on, and that memory comes back. Each is made twice, and must give
the same bits. Needs ``apt-get install gcc-aarch64-linux-gnu qemu-user`` (names of Debian); tests are skipped without.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from scifm.native import Code, Target, build, signatures

COMPILER = "aarch64-linux-gnu-gcc"
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
HARNESS = Path(__file__).with_suffix(".c")


class Emulated:
    """What `scifm.native.Library` is, for a processor that is not here.

    Attributes:
        called: names of the functions that were called.
    """

    threads, prebuilt = True, False

    def __init__(self, code: Code, folder: Path) -> None:
        emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
        if emulator is None or shutil.which(COMPILER) is None:
            pytest.skip(f"needs {COMPILER} and {EMULATORS[0]}")
        self._parameters = signatures(code.files)
        self.called: set[str] = set()
        library = build(code, folder, (COMPILER,), Target("linux", "aarch64"))
        harness = folder / "harness"
        subprocess.run([COMPILER, "-O1", str(HARNESS), "-o", str(harness), "-ldl"], check=True, timeout=60)
        asked = [COMPILER, "-print-file-name=libc.so.6"]
        libc = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
        command = [emulator, "-L", str(Path(libc).resolve().parents[1]), str(harness), str(library)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1)

    def close(self) -> None:
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0

    def call(self, name: str, *arguments: torch.Tensor | int | None) -> None:
        """Run a function on as many threads as torch uses, twice, and take what it made."""
        assert len(arguments) + 1 == len(self._parameters[name])
        self.called.add(name)
        memory = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in arguments if _is_tensor(t)}
        places = list(memory)
        words = [torch.get_num_threads(), len(memory), len(arguments), *memory.values()]
        for argument in arguments:
            if _is_tensor(argument):
                start = argument.untyped_storage().data_ptr()
                words += [places.index(start), argument.data_ptr() - start]
            else:
                words += [-1, int(argument or 0)]
        about = struct.pack(f"64s{len(words)}q", f"scifm_{name}".encode(), *words)
        message = about + b"".join(ctypes.string_at(place, size) for place, size in memory.items())
        first, second = self._answer(message, sum(memory.values())), self._answer(message, sum(memory.values()))
        assert first == second, f"{name} gave other bits when it was called again"
        for place, size in memory.items():
            ctypes.memmove(place, first, size)
            first = first[size:]

    def _answer(self, message: bytes, size: int) -> bytes:
        self._process.stdin.write(message)
        self._process.stdin.flush()
        answer = self._process.stdout.read(size)
        assert len(answer) == size, f"the emulated process ended: {self._process.poll()}"
        return answer


def _is_tensor(argument: torch.Tensor | int | None) -> bool:
    return isinstance(argument, torch.Tensor)
