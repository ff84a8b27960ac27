"""Who imports whom: the runtime needs no compiler, the compiler no runtime, and `netc --help` nothing at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("lark", "bcc", "pyroute2", "nftables", "numpy", "scapy", "yaml", "msgspec", "dpkt")
OF_THE_COMPILER = ("compiler", "compiler.bundle", "compiler.tables")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, also inside functions; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", modules("compiler"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_compiler_never_imports_the_runtime(path: Path) -> None:
    assert not [name for name in imported(path) if name.split(".")[0] == "runtime"]


@pytest.mark.parametrize("path", modules("runtime"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_runtime_imports_bundle_and_tables_only(path: Path) -> None:
    of_compiler = {name for name in imported(path) if name.split(".")[0] == "compiler"}
    wrong = [name for name in of_compiler if not any(name == good or name.startswith(f"{good}.") for good in OF_THE_COMPILER[1:])]
    assert [name for name in wrong if name != "compiler"] == []
    assert not {"lark", "bcc"} & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["apply", "--help"], ["counters", "--help"], ["compile", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = "import sys; from runtime.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\nprint('@', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.rpartition("@")[2].split())
    assert "runtime.cli" in loaded
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert not [name for name in loaded if name.startswith("compiler")]
