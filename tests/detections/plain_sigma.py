"""A second, naive meaning of Sigma rules: plain Python over the document as YAML gives it.

Nothing here uses pySigma, Polars or the package under test.
"""

import base64
import ipaddress
import json
import re

SPECIAL = {"*": ".*", "?": "."}


def matches(detection, record):
    """Return whether a record meets the condition of a `detection` section."""
    named = {name: value for name, value in detection.items() if name != "condition"}
    words = re.findall(r"[()]|[^\s()]+", detection["condition"])
    result, rest = either(words, named, record)
    assert not rest
    return result


def either(words, named, record):
    result, words = both(words, named, record)
    while words and words[0] == "or":
        other, words = both(words[1:], named, record)
        result = result or other
    return result, words


def both(words, named, record):
    result, words = single(words, named, record)
    while words and words[0] == "and":
        other, words = single(words[1:], named, record)
        result = result and other
    return result, words


def single(words, named, record):
    if words[0] == "not":
        result, rest = single(words[1:], named, record)
        return not result, rest
    if words[0] == "(":
        result, rest = either(words[1:], named, record)
        return result, rest[1:]
    if len(words) > 2 and words[1] == "of":
        of = words[2]
        chosen = [n for n in named if of == "them" or re.fullmatch(of.replace("*", ".*"), n)]
        results = [selected(named[n], record) for n in chosen]
        return (any(results) if words[0] == "1" else all(results)), words[3:]
    return selected(named[words[0]], record), words[1:]


def selected(selection, record):
    if isinstance(selection, list):
        return any(
            selected(one, record) if isinstance(one, dict) else keyword(one, record)
            for one in selection
        )
    return all(field(key, value, record) for key, value in selection.items())


def keyword(word, record):
    return any(like(text, f"*{word}*") for text in everything(record))


def everything(value):
    if isinstance(value, dict):
        for name, below in value.items():
            yield name
            yield from everything(below)
    elif isinstance(value, list):
        for below in value:
            yield from everything(below)
    elif value is not None:
        yield text_of(value)


def field(key, wanted, record):
    name, *modifiers = key.split("|")
    wanted = wanted if isinstance(wanted, list) else [wanted]
    found = [text_of(value) for value in values(record, name.split("."))]
    each = [one(found, value, modifiers, record) for value in wanted]
    result = all(each) if "all" in modifiers else any(each)
    return not result if "neq" in modifiers else result


def values(value, steps):
    if isinstance(value, list):
        return [found for item in value for found in values(item, steps)]
    if not steps:
        return [] if value is None else [value]
    return values(value.get(steps[0]), steps[1:]) if isinstance(value, dict) else []


def text_of(value):
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return json.dumps(value)


def one(found, wanted, modifiers, record):  # noqa: PLR0911 one per modifier
    kinds = {*modifiers} - {"all", "neq"}
    if "exists" in kinds:
        return bool(found) == wanted
    if wanted is None:
        return not found
    if "fieldref" in kinds:
        others = [text_of(value).lower() for value in values(record, wanted.split("."))]
        return any(text.lower() in others for text in found)
    for sign, holds in COMPARED.items():
        if sign in kinds:
            return any(is_number(text) and holds(float(text), wanted) for text in found)
    if "cidr" in kinds:
        return any(inside(text, wanted) for text in found)
    if "re" in kinds:
        flags = re.DOTALL * ("s" in kinds) | re.IGNORECASE * ("i" in kinds)
        return any(re.search(wanted, text, flags) for text in found)
    pattern = wanted if isinstance(wanted, str) else text_of(wanted)
    if "base64" in kinds:
        pattern = base64.b64encode(pattern.encode()).decode()
    before = "*" if kinds & {"contains", "endswith"} else ""
    after = "*" if kinds & {"contains", "startswith"} else ""
    return any(like(text, before + pattern + after, cased="cased" in kinds) for text in found)


COMPARED = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


def is_number(text):
    return bool(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text))


def inside(text, network):
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(network)
    except ValueError:
        return False


def like(text, pattern, cased=False):
    if not cased:
        text, pattern = text.lower(), pattern.lower()
    made, escaped = "", False
    for char in pattern:
        if escaped:
            made += re.escape(char if char in "*?\\" else "\\" + char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            made += SPECIAL.get(char) or re.escape(char)
    made += re.escape("\\") * escaped
    return re.fullmatch(made, text, re.DOTALL) is not None
