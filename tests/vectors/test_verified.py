"""`signing.verify_untrusted` is the only way to a `Verified`, at run time and in the source."""

import ast
import copy
import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clanmesh_protocol import signing
from clanmesh_protocol.errors import SignatureError
from clanmesh_protocol.records import parse_untrusted
from clanmesh_protocol.signing import Verified, verify_untrusted
from tests.vectors.cases_records import GOOD_DATA, flip
from tests.vectors.people import CLAN, OTHER_CLAN

ROOT = Path(__file__).parents[2]
RECORD = parse_untrusted(GOOD_DATA, CLAN)


@pytest.fixture
def verified() -> Verified[Any]:
    return verify_untrusted(RECORD, CLAN)


def test_a_sound_record_becomes_verified(verified: Verified[Any]) -> None:
    assert verified.value is RECORD


def test_a_forged_record_does_not() -> None:
    forged = parse_untrusted(flip(GOOD_DATA, 40), CLAN)
    with pytest.raises(SignatureError):
        verify_untrusted(forged, CLAN)
    with pytest.raises(SignatureError):
        verify_untrusted(RECORD, OTHER_CLAN)


@pytest.mark.parametrize("witness", [None, object(), True, "witness", Verified])
def test_the_constructor_is_shut(witness: object, verified: Verified[Any]) -> None:
    with pytest.raises(TypeError):
        Verified(RECORD, verified.content, witness)


def test_the_constructor_needs_a_witness(verified: Verified[Any]) -> None:
    with pytest.raises(TypeError):
        Verified(RECORD, verified.content)  # type: ignore[call-arg]


def test_it_has_no_subclasses() -> None:
    with pytest.raises(TypeError):
        type("Trusting", (Verified,), {})
    with pytest.raises(TypeError):

        class Trusting(Verified):  # type: ignore[misc,type-arg]
            pass


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, pickle.dumps, lambda value: value.__reduce_ex__(4)]
)
def test_it_is_not_copied(duplicate: Any, verified: Verified[Any]) -> None:
    with pytest.raises(TypeError):
        duplicate(verified)


def test_it_is_not_replaced(verified: Verified[Any]) -> None:
    with pytest.raises(TypeError):
        dataclasses.replace(verified, _value=RECORD)  # type: ignore[type-var]


@pytest.mark.parametrize("name", ["_value", "_content", "value", "content", "other"])
def test_it_does_not_change(name: str, verified: Verified[Any]) -> None:
    with pytest.raises(AttributeError):
        setattr(verified, name, RECORD)
    assert verified.value is RECORD


@pytest.mark.parametrize("make", [object.__new__, Verified.__new__])
def test_one_that_was_never_begun_is_of_no_use(make: Any) -> None:
    hollow = make(Verified)
    for name in ("value", "content"):
        with pytest.raises(AttributeError):
            getattr(hollow, name)
    with pytest.raises(AttributeError):
        hollow._value = RECORD


def test_beginning_again_needs_the_witness_too(verified: Verified[Any]) -> None:
    with pytest.raises(TypeError):
        verified.__init__(RECORD, verified.content, object())  # type: ignore[misc]
    assert verified.value is RECORD


# --- the source ----------------------------------------------------------------------------------------


def sources() -> list[Path]:
    files = [path for folder in ("protocol", "clanmeshd", "clanctl") for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in files if path != Path(signing.__file__).resolve())


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find what could make or mend a Verified: the witness, the constructor, its hidden fields."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="_WITNESS") | ast.Attribute(attr="_WITNESS") | ast.alias(name="_WITNESS"):
                yield node.lineno, "the witness"
            case ast.Call(func=func) if _names_verified(func):
                yield node.lineno, "a call of Verified"
            case ast.Call(func=ast.Attribute(attr="__new__"), args=[first, *_]) if _names_verified(first):
                yield node.lineno, "__new__ of Verified"
            case ast.Call(
                func=ast.Attribute(attr="__setattr__"), args=[_, ast.Constant(value="_value" | "_content"), *_]
            ):
                yield node.lineno, "a hidden field set"
            case ast.ClassDef(bases=bases) if any(_names_verified(base) for base in bases):
                yield node.lineno, "a subclass of Verified"
            case ast.alias(name="Verified", asname=str()):
                yield node.lineno, "Verified by another name"
            case ast.Assign(value=value) if _names_verified(value):
                yield node.lineno, "Verified by another name"


def _names_verified(node: ast.AST) -> bool:
    match node:
        case ast.Name(id="Verified") | ast.Attribute(attr="Verified"):
            return True
        case ast.Subscript(value=value):
            return _names_verified(value)
    return False


def test_nothing_else_in_the_source_makes_one() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sources()
        for line, what in offences(ast.parse(path.read_text()))
    ]
    assert found == []
    assert len(sources()) > 10


def test_signing_makes_one_in_one_place() -> None:
    tree = ast.parse(Path(signing.__file__).read_text())
    makers = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _names_verified(node.func)
    ]
    assert makers == ["verify_untrusted"]
    readers = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == "_WITNESS"
    ]
    assert sorted(readers) == ["__init__", "verify_untrusted"]


@pytest.mark.parametrize(
    "source",
    [
        "from clanmesh_protocol.signing import _WITNESS",
        "signing._WITNESS",
        "Verified(record, content, w)",
        "Verified[Record](record, content, w)",
        "signing.Verified(record, content, w)",
        "object.__new__(Verified)",
        "object.__setattr__(v, '_value', record)",
        "class Mine(Verified[Record]): pass",
        "from clanmesh_protocol.signing import Verified as V",
        "V = Verified",
    ],
)
def test_the_scan_sees(source: str) -> None:
    assert list(offences(ast.parse(source)))


def test_the_scan_lets_annotations_pass() -> None:
    assert not list(
        offences(ast.parse("def apply(self, record: Verified[Record]) -> list[Verified[Record]]: ..."))
    )
