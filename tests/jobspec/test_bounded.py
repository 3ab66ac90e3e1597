"""JSON Schema that may be a stranger's: no network, no pattern that backtracks, no reference without end."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.jobspec.schema_validator import SchemaValidator, StepLimitExceeded, UnsupportedSchema
from runner.jobspec.strict_json import parse_strict

DOUBLING: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": {}}


def problem(schema: dict[str, Any], value: Any) -> str:
    found = SchemaValidator(schema).first_problem(value)
    return "" if found is None else str(found.message)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        pytest.param({"$ref": "https://example.com/x.json"}, "leads to another file", id="the network"),
        pytest.param({"$ref": "file:///etc/passwd"}, "leads to another file", id="a file"),
        pytest.param({"$ref": "other.json#/a"}, "leads to another file", id="a file beside it"),
        pytest.param({"properties": {"enum": {"$ref": "x.json"}}}, "leads to another file", id="below a keyword's name"),
        pytest.param({"$id": "http://127.0.0.1:9/a", "items": {"$id": "http://127.0.0.1:9/b", "$ref": "#/c"}}, "$id is allowed only at the top", id="another base"),
        pytest.param({"$schema": "http://json-schema.org/draft-04/schema#", "items": {"id": "http://127.0.0.1:9/b", "$ref": "#/c"}}, "leads to nothing in it", id="another base, as drafts had it"),
        pytest.param({"items": {"$schema": "http://json-schema.org/draft-04/schema#"}}, "$schema is allowed only at the top", id="another dialect inside"),
        pytest.param({"$ref": "#/$defs/none"}, "$ref #/$defs/none leads to nothing in it", id="no such definition"),
        pytest.param({"$ref": "#none"}, "$ref #none leads to nothing in it", id="no such anchor"),
        pytest.param({"$ref": "#"}, "leads back to itself", id="itself"),
        pytest.param({"properties": {"a": {"anyOf": [{"not": {"$ref": "#/properties/a"}}]}}}, "leads back to itself", id="itself, deeper"),
        pytest.param({"$ref": "#/$defs/a0", "$defs": DOUBLING}, "more than 10000 schemas", id="doubling references"),
        pytest.param({"unevaluatedProperties": False, "$ref": "#/$defs/a0", "$defs": DOUBLING}, "more than 10000 schemas", id="doubling references, looked at first elsewhere"),
        pytest.param({"pattern": "("}, "the pattern '(' can't be used", id="no pattern"),
        pytest.param({"pattern": "(?=a)"}, "look-around", id="look-around"),
        pytest.param({"patternProperties": {"(a)\\1": {}}}, "back references", id="back references"),
        pytest.param({"pattern": "(a{1000}){1000}"}, "repeat", id="a pattern that grows"),
        pytest.param({"patternProperties": {"a": {}}, "allOf": [{"unevaluatedProperties": False}]}, "can't have both patternProperties and", id="patterns that jsonschema would match by itself"),
        pytest.param({"type": "objekt"}, "at /type: 'objekt' is not", id="no schema"),
        pytest.param(json.loads('{"not":' * 70 + "{}" + "}" * 70), "nested more than 60 deep", id="deep"),
    ],
)  # fmt: skip
def test_what_could_run_on_or_reach_out_is_refused_before_anything_is_sent(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        SchemaValidator(schema)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"pattern": "^(a+)+$"}, "a" * 50_000 + "!", id="pattern"),
        pytest.param({"patternProperties": {"^(a|a)*$": False}, "additionalProperties": False}, {"a" * 50_000 + "!": 1}, id="patterns of properties"),
        pytest.param({"uniqueItems": True}, [{"a": n} for n in range(50_000)] + [{"a": 7}], id="unique items"),
    ],
)  # fmt: skip
def test_a_check_takes_linear_time(schema: dict[str, Any], value: Any) -> None:
    """With jsonschema's own keywords each of these takes minutes at least."""
    assert problem(schema, value)


@pytest.mark.slow
def test_recursion_that_doubles_is_stopped() -> None:
    twice = {"items": {"$ref": "#"}, "minItems": 2}
    value: Any = []
    for _ in range(30):
        value = [value]
    with pytest.raises(StepLimitExceeded):
        problem({"anyOf": [twice, twice, {"type": "string"}]}, value)


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        pytest.param({"$defs": {"n": {"type": "string"}}, "items": {"$ref": "#/$defs/n"}}, ["a", 1], "1 is not of type 'string'", id="reference"),
        pytest.param({"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]}, {"next": {"next": None}}, "", id="recursion"),
        pytest.param({"$anchor": "top", "properties": {"a": {"$ref": "#top"}}, "type": "object"}, {"a": 1}, "1 is not of type 'object'", id="anchor"),
        pytest.param({"$id": "https://example.com/a", "$defs": {"n": {"type": "null"}}, "$ref": "#/$defs/n"}, 1, "1 is not of type 'null'", id="an id at the top"),
        pytest.param({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"n": {"const": 1}}, "items": {"$ref": "#/definitions/n"}}, [2], "1 was expected", id="draft 7"),
        pytest.param({"pattern": "^\\u00e9\\p{L}\\\\u$"}, "éß\\u", "", id="what RE2 writes otherwise"),
        pytest.param({"patternProperties": {"^x": {"type": "string"}}, "properties": {"y": {}}, "additionalProperties": False}, {"x": "a", "y": 1}, "", id="patterns of properties"),
        pytest.param({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": {"const": 1}}, {"x": "a", "z": 2}, "1 was expected", id="what no pattern names"),
        pytest.param({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"z": 2}, "'z' matches none of the patterns of properties", id="what no pattern allows"),
        pytest.param({"additionalProperties": False}, {"z": 2}, "Additional properties are not allowed ('z' was unexpected)", id="closed"),
        pytest.param({"uniqueItems": True}, [1, True, [1], [True], {"a": 1}, {"a": True}], "", id="numbers are no booleans"),
        pytest.param({"uniqueItems": True}, [{"a": 1, "b": [1.0]}, {"b": [1], "a": 1}], "[{'a': 1, 'b': [1.0]}, {'b': [1], 'a': 1}] has non-unique elements", id="equal items"),
        pytest.param({"enum": [{"pattern": "("}]}, {"pattern": "("}, "", id="a value that looks like a schema"),
    ],
)  # fmt: skip
def test_what_schemas_are_for_still_works(schema: dict[str, Any], value: Any, says: str) -> None:
    assert problem(schema, value) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"a": NaN}', "JSON has no NaN", id="NaN"),
        pytest.param("[1e400]", "the number 1e400 is too large", id="too large for a double"),
        pytest.param("[99999999999999999999]", "beyond 64 bits", id="beyond 64 bits"),
        pytest.param("9" * 5_000, "5000 digits", id="many digits"),
        pytest.param('"\\ud800"', "half of a surrogate pair", id="half of a pair"),
        pytest.param("[" * 100_000, "nested too deep", id="deep and open"),
        pytest.param("[" * 400 + "]" * 400, "nested too deep", id="deep"),
        pytest.param('{"a": 1, "a": 2}', "the key a is repeated", id="a key twice"),
        pytest.param("{", "Expecting property name", id="no JSON"),
    ],
)
def test_json_that_would_not_come_out_as_it_is_written_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_strict(text, no_duplicate_keys=True)


KEYWORDS = st.sampled_from(["$ref", "$id", "$schema", "$defs", "$anchor", "$dynamicRef", "$dynamicAnchor", "definitions", "id", "type", "enum", "const",
                            "properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "required", "items", "prefixItems",
                            "contains", "minContains", "uniqueItems", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas",
                            "dependentRequired", "propertyNames", "pattern", "minimum", "multipleOf", "minLength", "maxItems", "format", "a"])  # fmt: skip
WORDS = st.sampled_from(["#", "#/$defs/a", "#/properties/a", "#a", "x.json", "http://127.0.0.1:9/x", "https://json-schema.org/draft/2020-12/schema",
                         "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#", "object", "string", "array", "integer",
                         "^(a+)+$", "(", "(?=a)", "a", ""])  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers(-9, 1 << 70) | st.floats(allow_nan=False) | WORDS | st.text(max_size=5)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYWORDS, JSON, max_size=5), JSON)
def test_any_json_is_a_schema_or_refused_in_words(schema: dict[str, Any], value: Any) -> None:
    try:
        validator = SchemaValidator(schema)
    except UnsupportedSchema:
        return
    with contextlib.suppress(StepLimitExceeded, RecursionError):
        found = validator.first_problem(value)
        assert found is None or found.message
