"""What markup would show, against Python's own parser of HTML; and time that grows with the text alone."""

import html.parser
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.text.clean_document import clean_document
from lamoid.text.clean_markup import has_wiki_markup, strip_markup
from lamoid.text.clean_rules import CleanSpec

TAGS = ["p", "b", "a", "div", "span", "li", "h2", "td", "em"]
WORDS = st.text("abcdefg ", min_size=1, max_size=8)


class Shown(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.feed(text)
        self.close()

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


@given(
    st.recursive(
        st.one_of(WORDS, st.sampled_from(["&amp;", "&lt;b&gt;", "&#233;", "<br/>", "<!-- <p>no</p> -->"])),
        lambda inner: st.builds(
            lambda tag, quote, parts: f"<{tag} class={quote}x{quote}>{''.join(parts)}</{tag}>",
            st.sampled_from(TAGS),
            st.sampled_from(["'", '"']),
            st.lists(inner, max_size=4),
        ),
        max_leaves=12,
    )
)
def test_html_shows_what_pythons_parser_shows(text: str) -> None:
    """Ends of lines for blocks are ours alone, so white space is not compared."""
    expected = "".join(Shown(text).pieces)
    assert re.sub(r"\s+", "", strip_markup(text, wiki=False)) == re.sub(r"\s+", "", expected)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("a<script type='x'>if (a<b) {}</script>b<style>p {}</style>c", "abc"),
        ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ("AT&amp;T &copy; &nbsp;&#x4e2d; &bogus; &", "AT&T ©  中 &bogus; &"),
        ("hid&#8203;den &#x202e;turned&#0;", "hidden turned�"),
        ("'''bold''' and ''slanted''", "bold and slanted"),
        ("[[target|label]] [[plain]]s [[a:b]]", "label plains a:b"),
        ("x [[File:a.png|thumb|a [[nested|caption]] here]] y [[Category:Z]]", "x  y"),
        ("{{cite|{{nested}}|url}}text{| table |}", "text"),
        ("== Heading ==\nbody\n=== Lower ===", "Heading\nbody\nLower"),
        ("[https://x.org a label] [http://y.org]", "a label"),
        ("fact<ref name='a'>source</ref> more<ref name='a' /> __NOTOC__", "fact more"),
        ("-{zh-hans:a;zh-hant:b}-", "-{zh-hans:a;zh-hant:b}-"),
    ],
)
def test_each_kind_of_markup_is_removed(text: str, left: str) -> None:
    assert strip_markup(text, wiki=True) == left


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d: x <- 3",
        "<unk> and <extra_id_0> stay",
        "vector<int> v; List<String>",
        "a == b, {json: 1}, f{{x}",
        "it's 5' 10'' no",
        "line  \n\n\n\nwith space that is kept as it is",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert strip_markup(text, wiki=False) == text


def test_programs_and_tex_keep_their_quotes_and_brackets() -> None:
    text = "x = ''\ny = z[[i]]\nf'{{x}}' ``so'' and more text"
    assert clean_document(text, CleanSpec()).text == text


def test_wiki_markup_stays_where_it_is_not_asked_for() -> None:
    text = "[[a|b]] {{c}} '''d''' == e =="
    assert strip_markup(text, wiki=False) == text


@pytest.mark.parametrize(
    ("text", "is_wiki"),
    [
        ("'''A''' is a [[letter]].", True),
        ("{{Infobox|name=A}}\n== History ==\ntext", True),
        ("text<ref>source</ref> [[Category:Letters]]", True),
        ("x = ''\ny = matrix[[i, j]]", False),
        ("if [[ -f a ]]; then echo '' ; fi", False),
        ("``quoted'' in TeX {{\\bf bold}}", False),
        ("{{ variable }} and {% for %} of a template", False),
        ("a == b == c", False),
    ],
)
def test_two_signs_make_a_wiki(text: str, is_wiki: bool) -> None:
    assert has_wiki_markup(text) == is_wiki


@pytest.mark.parametrize(
    "piece",
    ["<", "<p ", "<script>", "<script></style>", "<!--", "<ref>", "<ref ", "{{", "}}", "{|", "[[", "[[a|", "[//",
     "[//a ", "'", "==", "\n== ", "\n== a ", "&", "&#", " ", "\n ", "__", "</script", "<!-- --", "]]", "<a\n", "\x1b]"],
)  # fmt: skip
def test_time_grows_with_the_text_alone(piece: str) -> None:
    """Ten times the text would take a hundred times as long if anything were searched from every place to the end.

    At this length that would be more than the time that a test is given.
    """
    text = piece * (2_000_000 // len(piece)) + "--></script></style></ref>"
    has_wiki_markup(text)
    assert len(strip_markup(text, wiki=True)) <= len(text)
