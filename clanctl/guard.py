"""The outermost frame of both commands: whatever happens inside, a person sees one line and never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Final

from clanctl.failures import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, Failure, complain

DEBUG_VARIABLE: Final = "CLANMESH_DEBUG"


def guarded(program: str, body: Callable[[], int]) -> int:
    """Run `body` and give the exit status, its own or that of what went wrong."""
    try:
        _tolerate_narrow_encodings()
        status = body()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return EXIT_PIPE_CLOSED
    except Failure as failure:
        _trace()
        complain(program, str(failure))
        return failure.status
    except OSError as error:
        _trace()
        complain(program, _world_failed(error))
        _abandon_stdout()
        return EXIT_FAILED
    except Exception as error:  # a defect of ours; people get a line that they can report
        _trace()
        complain(program, f"internal error: {type(error).__name__}: {error}; {_report_hint()}")
        return EXIT_FAILED
    return status


def _tolerate_narrow_encodings() -> None:
    """A terminal that cannot spell a character shows another one: that is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _abandon_stdout() -> None:
    """Point stdout at nothing: the interpreter flushes it once more at its end, and would complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, sys.stdout.fileno())
    except (OSError, ValueError):
        return  # no real stdout, so nothing is flushed
    finally:
        os.close(nothing)


def _world_failed(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"the system refused: {where}{error.strerror or error}; {_report_hint()}"


def _report_hint() -> str:
    return f"run it again with {DEBUG_VARIABLE}=1 for details, and see `journalctl -u clanmeshd`"


def _trace() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
