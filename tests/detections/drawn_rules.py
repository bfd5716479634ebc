"""Random detections and records for hypothesis; the names and texts are few, so that many match."""

from hypothesis import strategies as st

SIGMA = "\u0394\u03a3"  # ends in the letter whose lower case depends on its place
TEXTS = [
    *("", "a", "YWI=", "A", "ab", "aB*", "b?d", "a\\b", "x.y", "Straße", "İ", SIGMA),
    *("10.1.2.3", "7"),
]
ADDRESSES = ["10.1.2.3", "10.2.0.1", "2001:db8::1", "no address"]
NAMES = ["a", "b", "c", "o.a", "o.l.a", "l.a", "l.b"]

scalars = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([*TEXTS, *ADDRESSES]),
    st.sampled_from([0, 1, 7, 12, -3, 0.5, 7.0, 1e3, True, False, None]),
)
leaves = st.one_of(scalars, st.lists(scalars, min_size=1, max_size=3))
small = st.fixed_dictionaries({"a": leaves}, optional={"b": leaves})
records = st.fixed_dictionaries(
    {
        "a": leaves,
        "l": st.one_of(scalars, small, st.lists(st.one_of(small, small, scalars), max_size=3)),
        "o": st.one_of(scalars, st.fixed_dictionaries({"a": leaves, "l": st.lists(small)})),
    },
    optional={"b": leaves, "c": st.one_of(leaves, small)},
)

words = st.sampled_from(
    [
        *(
            "",
            "a",
            "A",
            "b",
            "ab",
            "*",
            "a*",
            "*B",
            "a?",
            "?",
            "a*b",
            "b\\?d",
            "a\\\\b",
            "ab\\*",
            "x",
        ),
        *("YWI=", "strasse", "STRASSE", "straße", "i̇", SIGMA, SIGMA.lower(), "10.*", "10.1.2.3"),
        *("7", "true", "0.5"),
    ]
)
numbers = st.sampled_from([0, 1, 7, 12, 0.5, -3])
values = st.one_of(words, numbers, st.booleans(), st.none())
_texts = {
    suffix: st.one_of(words, st.lists(words, min_size=1, max_size=3))
    for suffix in (
        *("contains", "startswith", "endswith", "contains|all", "cased", "contains|cased"),
        *("startswith|cased", "all"),
    )
}
_others = {
    "": st.one_of(values, st.lists(values, min_size=1, max_size=3)),
    "exists": st.booleans(),
    "base64": words.filter(str.isalnum),
    "fieldref": st.sampled_from(NAMES),
    "cidr": st.sampled_from(["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"]),
    "re": st.sampled_from(["^a", "b$", "a.b", "[a-c]+", r"\d", "^$", "A"]),
    "re|i": st.sampled_from(["^A", "B$"]),
    **dict.fromkeys(["lt", "lte", "gt", "gte"], numbers),
}


@st.composite
def _fields(draw):
    made = {}
    for _ in range(draw(st.integers(1, 3))):
        modifiers = draw(st.sampled_from([*_texts, *_others]))
        name = draw(st.sampled_from(NAMES))
        key = f"{name}|{modifiers}" if modifiers else name
        made[key] = draw((_texts | _others)[modifiers])
    return made


_keywords = st.lists(words.filter(lambda word: word.strip("*")), min_size=1, max_size=2)
_selections = st.one_of(
    _fields(), _fields(), st.lists(_fields(), min_size=1, max_size=2), _keywords
)
_CONDITIONS = (
    *("sel_1", "not sel_1", "sel_1 and sel_2", "sel_1 or not sel_2", "1 of sel_*", "all of them"),
    *("not (sel_1 or sel_2) and not filter", "1 of them and not filter", "not 1 of sel_*"),
    "sel_1 and (sel_2 or filter) or not all of sel_*",
)


@st.composite
def detections(draw):
    """Draw the `detection` section of a rule."""
    made = {name: draw(_selections) for name in ("sel_1", "sel_2", "filter")}
    return {**made, "condition": draw(st.sampled_from(_CONDITIONS))}


def document(detection, **logsource):
    """Return a rule with this detection, as YAML would give it."""
    return {
        "title": "Drawn",
        "id": "11111111-2222-4333-8444-555555555555",
        "status": "test",
        "logsource": logsource or {"product": "jumpcloud"},
        "detection": detection,
        "level": "low",
    }
