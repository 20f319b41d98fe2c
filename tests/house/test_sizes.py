"""No module and no function grows past what one reading takes in."""

import ast

import pytest

from tests.house.source import python_files, text

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
TEST_MODULE_LINES_MAX = 600  # a row of cases reads faster than code


def long_functions(source: str, limit: int) -> list[str]:
    """The functions that are longer than the limit, with their lengths."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > limit:
                found.append(f"{node.name} has {lines} lines")
    return found


def test_there_are_modules_to_look_at() -> None:
    """An empty list would pass everything below."""
    names = {str(path) for path in python_files()}
    assert {"clanmeshd/daemon.py", "clanctl/cli.py", "protocol/clanmesh_protocol/records.py"} <= names


def test_modules_are_short() -> None:
    """400 lines, without exceptions outside of the tests."""
    long = []
    for path in python_files():
        limit = TEST_MODULE_LINES_MAX if path.parts[0] == "tests" else MODULE_LINES_MAX
        lines = len(text(path).splitlines())
        if lines > limit:
            long.append(f"{path}: {lines} lines of at most {limit}")
    assert long == []


def test_functions_are_short() -> None:
    """70 lines, without exceptions."""
    long = [
        f"{path}: {what}" for path in python_files() for what in long_functions(text(path), FUNCTION_LINES_MAX)
    ]
    assert long == []


@pytest.mark.parametrize(("lines", "is_long"), [(FUNCTION_LINES_MAX, False), (FUNCTION_LINES_MAX + 1, True)])
def test_the_measure_measures(lines: int, is_long: bool) -> None:
    """A function of exactly the limit passes, one more line does not."""
    source = "async def f():\n" + "    pass\n" * (lines - 1)
    assert bool(long_functions(source, FUNCTION_LINES_MAX)) == is_long


def test_what_is_public_says_what_it_is() -> None:
    """Each module, and each public class and function outside of the tests, has a docstring."""
    silent = []
    for path in python_files():
        tree = ast.parse(text(path))
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(str(path))
        if path.parts[0] != "tests":
            silent += [f"{path}: {name}" for name in silent_names(tree)]
    assert silent == []


def silent_names(tree: ast.Module) -> list[str]:
    """Public functions and classes of a module without a docstring."""
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
