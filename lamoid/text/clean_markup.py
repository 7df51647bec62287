"""Removes markup in time that grows with the text alone: HTML, and what MediaWiki adds to it."""

import html
import re

from lamoid.text.clean_unicode import strip_controls

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,10})(?:\s[^<>]{0,5000})?\s?/?>|<![a-zA-Z][^<>]{0,500}>")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_LINK = re.compile(r"\[\[([^\[\]\n]{1,1000})\]\]")
_OUTER = re.compile(r"\[(?:https?:)?//[^\s\[\]]{1,2000}(?:[ \t]([^\[\]\n]{0,1000}))?\]")
_HEADING = re.compile(r"^[ \t]*+(={2,6})([^=\n][^\n]*)$", re.MULTILINE)
_EMPHASIS = re.compile(r"'{2,5}")
_SWITCH = re.compile(r"__(?:NO)?(?:TOC|EDITSECTION|INDEX|GALLERY|FORCETOC|NEWSECTIONLINK)__")
_BRACES = re.compile(r"\{\{|\}\}|\{\||\|\}")
_WIKI_SIGNS = (
    re.compile(r"(?<![\w\]])\[\[[^\W\d_][^\[\]\n]{0,1000}\]\]"),
    re.compile(r"\{\{[^\W\d_][^{}|]{0,200}\|[^{}]{0,1000}\}\}|\{\| "),
    re.compile(r"'{3}[^'\n]{1,200}'{3}"),
    re.compile(r"^==[^=\n][^\n]{0,200}==[ \t]{0,9}$", re.MULTILINE),
    re.compile(r"<ref[ >]|</ref>", re.IGNORECASE),
    re.compile(r"\[\[(?:File|Image|Category|文件|分类|分類):"),
)
_SPACES = re.compile(r"(?<![ \t])[ \t]++(?=\n)|(?<=\n\n)\n+")
_ALONE = re.compile(r"<ref\b[^<>]{0,2000}/>", re.IGNORECASE)
_UNSEEN = [("<!--", "-->")]
_UNSEEN += [
    (rf"<{name}\b[^<>]{{0,2000}}>", rf"</{name}\b[^<>]{{0,100}}>") for name in ("script", "style", "noscript", "ref")
]


def strip_markup(text: str, wiki: bool) -> str:
    """Give the text that HTML, and with ``wiki`` MediaWiki's markup, would show; other text comes back unchanged.

    Only tags with names of HTML count, so that ``a < b`` and ``<unk>`` stay; those of blocks become newlines.
    """
    before = text
    if "<" in text:
        text = _without_html(text)
    if wiki:
        text = _without_wiki(text)
    if "&" in text:
        text = _ENTITY.sub(lambda found: strip_controls(html.unescape(found[0])).replace("\xa0", " "), text)
    return text if text == before else _SPACES.sub("", text).strip()


def has_wiki_markup(text: str) -> bool:
    """Does the text show two kinds at least of what MediaWiki adds? One alone is often a program's or TeX's."""
    return sum(sign.search(text) is not None for sign in _WIKI_SIGNS) > 1


def _without_html(text: str) -> str:
    text = _ALONE.sub("", text)
    for opening, closing in _UNSEEN:
        text = _without_pairs(text, opening, closing)
    return _TAG.sub(_shown, text)


def _without_pairs(text: str, opening: str, closing: str) -> str:
    """Remove what stands from each opening to the next closing, with both.

    Behind the last closing none is looked for: such a search would run to the end of the text from every opening.
    """
    end = 0
    for found in re.finditer(closing, text, re.IGNORECASE):
        end = found.end()
    pair = re.compile(f"{opening}(?s:.*?){closing}", re.IGNORECASE)
    return pair.sub("", text[:end]) + text[end:] if end else text


def _shown(tag: re.Match[str]) -> str:
    name = (tag[2] or "").lower()
    if _BLOCKS.fullmatch(name):
        return "\n"
    return "" if not name or _INLINE.fullmatch(name) else tag[0]


def _without_wiki(text: str) -> str:
    text = _without_braces(text)
    for _ in range(3):  # a caption may hold links, which hold none
        text, count = _LINK.subn(_linked, text)
        if not count:
            break
    text = _OUTER.sub(lambda found: found[1] or "", text)
    text = _HEADING.sub(_headed, text)
    return _SWITCH.sub("", _EMPHASIS.sub("", text))


def _linked(link: re.Match[str]) -> str:
    _, _, label = link[1].rpartition("|")
    space = link[1].partition(":")[0].strip().lower() if ":" in link[1] else ""
    return "" if space in _NAMESPACES else label.lstrip(":")


def _headed(line: re.Match[str]) -> str:
    title = line[2].rstrip(" \t")
    return title.removesuffix(line[1]).strip() if title.endswith(line[1]) else line[0]


def _without_braces(text: str) -> str:
    """Remove templates and tables, nested ones too; a brace without a partner stays as it is."""
    opened: list[tuple[str, int]] = []
    removed: list[tuple[int, int]] = []
    for mark in _BRACES.finditer(text):
        if mark[0] in ("{{", "{|"):
            opened.append((mark[0], mark.start()))
        elif opened and opened[-1][0] == ("{{" if mark[0] == "}}" else "{|"):
            start = opened.pop()[1]
            while removed and removed[-1][0] > start:
                removed.pop()
            removed.append((start, mark.end()))
    pieces, place = [], 0
    for start, end in removed:
        pieces.append(text[place:start])
        place = end
    return "".join([*pieces, text[place:]])


_NAMESPACES = frozenset({"file", "image", "category", "media", "文件", "档案", "图像", "分类", "分類", "檔案"})
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|br|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|"
    "footer|form|h[1-6]|head|header|hr|html|legend|li|link|main|menu|meta|nav|ol|option|p|pre|section|select|summary|"
    "table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_INLINE = re.compile(
    "a|abbr|acronym|area|audio|b|base|bdi|bdo|big|button|canvas|cite|code|col|colgroup|data|datalist|del|dfn|em|embed|"
    "font|i|iframe|img|input|ins|kbd|label|map|mark|meter|nobr|noscript|nowiki|object|optgroup|output|param|picture|"
    "progress|q|ref|rp|rt|ruby|s|samp|script|slot|small|source|span|strike|strong|style|sub|sup|svg|template|textarea|"
    "time|track|tt|u|var|video|wbr"
)
