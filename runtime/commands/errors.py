"""How an exception ends at the terminal: what was refused, where, and what to do."""

from __future__ import annotations

import json
import sys

from runtime import output


def show(error: Exception, as_json: bool) -> None:
    """One error on stderr, drawn or as a JSON object. The compiler's own diagnostics are passed on as they are."""
    messages = getattr(error, "messages", "")
    if messages:
        sys.stderr.write(messages if messages.endswith("\n") else messages + "\n")
        if not as_json:
            output.show_error(str(error))
        return
    if as_json:
        print(json.dumps({"error": describe(error)}), file=sys.stderr)
    else:
        output.show_error(describe(error))


def describe(error: Exception) -> str:
    """The words for an exception; one that netc does not expect is named as a bug of netc's."""
    from runtime.steps import StepError
    from runtime.transaction import TransactionFailed

    if isinstance(error, TransactionFailed):
        return _transaction(error)
    if isinstance(error, PermissionError):
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}\n  = help: this command needs root"
    if isinstance(error, OSError):
        return str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, StepError) or type(error).__module__.startswith(("runtime.", "compiler.")):
        return str(error)
    return f"{type(error).__name__}: {error}\n  = help: this is a bug in netc; run again with --debug and report what it prints"


def _transaction(error: object) -> str:
    from runtime.transaction import Interrupted, TransactionFailed

    assert isinstance(error, TransactionFailed)
    cause = error.cause
    why = describe(cause) if isinstance(cause, Exception) else type(cause).__name__
    lines = [f"interrupted during: {error.step} ({why})" if isinstance(cause, Interrupted | KeyboardInterrupt) else why]
    if not error.left:
        lines.append("nothing was changed" if not error.undone else f"nothing was changed: {len(error.undone)} steps were taken back")
        return "\n".join(lines)
    lines.append("these could not be taken back and are still there:")
    lines += [f"  {left.text}: {left.words}" for left in error.left]
    return "\n".join([*lines, "  = help: the next netc command tries again; `netc status` shows what is there"])
