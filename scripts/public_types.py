"""Fail where pyright cannot tell the type of a public name of Recollect.

`basedpyright --verifytypes` knows three answers: a type is known, unknown, or "could be inferred differently
by type checkers". The last stands for every method derived by `blocking()` and `waiting()`, which by design
have no written type of their own; tests/typing holds mypy and pyright to one answer there. So only unknown
types fail here.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec


class Diagnostic(msgspec.Struct):
    message: str
    file: str = ""


class Symbol(msgspec.Struct, rename="camel"):
    name: str
    is_type_known: bool
    is_type_ambiguous: bool
    diagnostics: list[Diagnostic]


class Completeness(msgspec.Struct, rename="camel"):
    symbols: list[Symbol]


class Report(msgspec.Struct, rename="camel"):
    type_completeness: Completeness
    general_diagnostics: list[Diagnostic]


def report() -> Report:
    """What --verifytypes says; it takes the first python of PATH for the one that has the packages."""
    folder = Path(sys.executable).parent
    done = subprocess.run(
        [folder / "basedpyright", "--verifytypes", "recollect", "--ignoreexternal", "--outputjson"],
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        check=False,  # ambiguous types too end it with 1
    )
    return msgspec.json.decode(done.stdout, type=Report)


def main() -> None:
    found = report()
    symbols = found.type_completeness.symbols
    unknown = [symbol for symbol in symbols if not symbol.is_type_known and not symbol.is_type_ambiguous]
    for diagnostic in found.general_diagnostics:
        print(diagnostic.message)
    for symbol in unknown:
        print(symbol.name)
        for diagnostic in symbol.diagnostics:
            print(f"    {diagnostic.message}")
    print(f"{len(symbols)} public names, {len(unknown)} of unknown type")
    if unknown or found.general_diagnostics or not symbols:
        sys.exit(1)


if __name__ == "__main__":
    main()
