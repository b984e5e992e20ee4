# SPDX-License-Identifier: Apache-2.0
"""The table of litmus loops in docs/protocol.md is that of tests/litmus/patterns.hpp.

Edges have the same names in the list, the model, docs/protocol.md and the sources. In model and sources every edge
but `none` has a label at a signal and one at a wait: a comment `edge counts: signal`, `edge counts: wait` or
`edge ready: signal, wait` beside the access that it is about, or just above."""

import re

import common

LIST, MODEL, DOCUMENT, SOURCES = "include/crossdock/lists.h", "model/protocol.pml", "docs/protocol.md", "src"
LOOPS = "tests/litmus/patterns.hpp"
SIDES = {"signal": {"signal"}, "wait": {"wait"}, "signal, wait": {"signal", "wait"}}
LABEL = re.compile(r"\bedge (\w+):([^\n*]*)")
COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
# What a line has to do with a label: it stores or loads with an order, or names the edge or its words.
ACCESS = (
    r"\bsignal\(|signal_prior_kernels|put16_atomic|packets\.store|store_release|store_release_prior_kernels|store16_atomic"
    r"|load_acquire|write_word_async|\bEdge::{0}\b|\b{0}_words\b|\bpoison\w*\b"
)
MODEL_ACCESS = r"\btell\({0}\b|\b{1}_HERE\b|\bpoison\w*\b|\bspoilt\b"
REACH = 2  # lines that a label on a line of its own looks down


def edges_of_list(text):
    """{name: operation that waits}, in order."""
    rows = re.search(r"#define XD_EDGES\(X\)((?:[^\n]*\\\n)*[^\n]*)", text)
    return dict(re.findall(r'X\((\w+), "([^"]*)"', rows[1])) if rows else {}


def edges_of_document(text):
    """The same from the table that the list's mark stands over."""
    table = re.search(r"<!-- list XD_EDGES -->\n((?:\|[^\n]*\n)*)", text)
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", table[1], re.MULTILINE)) if table else {}


def loops_of_source(text):
    """{(edge, shape, weakening)}; None where the loop as in the kernels, `none`, is missing."""
    rows = re.search(r"#define XD_LITMUS\(X\)((?:[^\n]*\\\n)*[^\n]*)", text)
    loops = set(re.findall(r"X\((\w+), (\w+), (\w+)\)", rows[1])) if rows else set()
    return loops if loops and all((edge, shape, "none") in loops for edge, shape, _ in loops) else None


def loops_of_document(text):
    """The same of the table, in which each row has the weakenings behind its loop."""
    table = re.search(r"<!-- loops XD_LITMUS -->\n((?:\|[^\n]*\n)*)", text)
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]*) \|", table[1], re.MULTILINE) if table else []
    return {(edge, shape, weakening) for edge, shape, without in rows for weakening in ["none", *re.findall(r"`(\w+)`", without)]}


def words_of_model(text):
    """Its edges: the numbers between their heading and the first word."""
    return re.findall(r"^#define (\w+) \d+$", text.partition("The edges: ")[2].partition("byte word")[0], re.MULTILINE)


def labels(path, text, access):
    """([(edge, side)], problems) of one file."""
    found, problems, lines = [], [], text.split("\n")
    for comment in COMMENT.finditer(text):
        if comment[0][0] == '"':
            continue
        for label in LABEL.finditer(comment[0]):
            line = text.count("\n", 0, comment.start() + label.start())
            edge, sides = label[1], SIDES.get(label[2].strip())
            where = f"{path}:{line + 1}: label `edge {edge}:{label[2].rstrip()}`"
            if sides is None:
                problems.append(f"{where} says neither signal nor wait")
                continue
            code = [re.sub(COMMENT, "", text_of_line).strip() for text_of_line in lines[line : line + 1 + REACH]]
            near = code[0] or " ".join(code)
            if not re.search(access.format(edge, edge.upper()), near):
                problems.append(f"{where} stands by no access to that edge")
            found += [(edge, side) for side in sides]
    return found, problems


def compare_labels(where, found, names):
    """Every edge signalled and waited for, no other name."""
    wanted = {(name, side) for name in names if name != "none" for side in ("signal", "wait")}
    return [f"{where}: no label `edge {edge}: {side}`" for edge, side in sorted(wanted - set(found))] + [
        f"{where}: {LIST} has no edge for `edge {edge}: {side}`" for edge, side in sorted(set(found) - wanted)
    ]


def check(texts):
    """Problems of {path: text}; sources are the paths under src."""
    missing = [path for path in (LIST, MODEL, DOCUMENT) if path not in texts]
    if missing:
        return [f"{path} is missing" for path in missing]
    edges, shown = edges_of_list(texts[LIST]), edges_of_document(texts[DOCUMENT])
    problems = [] if edges else [f"{LIST}: no XD_EDGES"]
    if list(edges.items()) != list(shown.items()):
        problems.append(f"{DOCUMENT}: its table has {shown}, {LIST} has {edges}")
    words = words_of_model(texts[MODEL])
    if sorted(words) != sorted(name for name in edges if name != "none"):
        problems.append(f"{MODEL}: has words for {words}, {LIST} has the edges {list(edges)}")
    if LOOPS in texts and loops_of_source(texts[LOOPS]) != loops_of_document(texts[DOCUMENT]):
        problems.append(
            f"{DOCUMENT}: its table of loops has {sorted(loops_of_document(texts[DOCUMENT]))}, {LOOPS} has "
            f"{sorted(loops_of_source(texts[LOOPS]) or ['a loop without `none`'])}"
        )
    found, bad = labels(MODEL, texts[MODEL], MODEL_ACCESS)
    problems += bad + compare_labels(MODEL, found, edges)
    sources = [path for path in texts if path.startswith(SOURCES + "/")]
    in_sources = []
    for path in sources:
        found, bad = labels(path, texts[path], ACCESS)
        in_sources += found
        problems += bad
    return problems + (compare_labels(SOURCES, in_sources, edges) if sources else [])


def self_test():
    good = {
        LIST: '#define XD_EDGES(X) \\\n  X(none, "-", "no") \\\n  X(done, "dispatch", "rows") \\\n  X(poison, "any", "failed")\n',
        DOCUMENT: "<!-- list XD_EDGES -->\n| edge | in |\n|---|---|\n| `none` | - | |\n| `done` | dispatch | x |\n"
        "| `poison` | any | |\n<!-- loops XD_LITMUS -->\n| edge | loop |\n|---|---|\n| `done` | `push` | `late` |\n",
        LOOPS: "#define XD_LITMUS(X) \\\n  X(done, push, none) X(done, push, late)\n",
        MODEL: "/* The edges: two */\n#define done 1\n#define poison 4\nbyte word[4];\n"
        "tell(done, n); /* edge done: signal */\nAWAIT(DONE_HERE); /* edge done: wait */\n"
        "/* edge poison: signal */\npoison_sent[to]\n:: poison_seen[me] /* edge poison: wait */\n",
        "src/a.hpp": "m.store_release(w, n);  // edge done: signal\n// edge done: wait\nwait(m, Edge::done);\n"
        'exchange(poison);  // edge poison: signal, wait\nregion("edge done: words");\n',
    }
    assert not check(good), check(good)
    source = "src/a.hpp"
    breaks = [
        (LIST, "X(done,", "X(landed,"),
        (LIST, 'done, "dispatch"', 'done, "combine"'),
        (DOCUMENT, "| `done` | dispatch | x |\n", ""),
        (DOCUMENT, "`done`", "`Done`"),
        (DOCUMENT, "dispatch", "combine"),
        (DOCUMENT, "`late`", "`early`"),
        (DOCUMENT, "| `done` | `push` | `late` |\n", ""),
        (LOOPS, " X(done, push, late)", ""),
        (LOOPS, "X(done, push, none)", ""),
        (MODEL, "#define done 1\n", ""),
        (MODEL, "#define poison 4", "#define poison 4\n#define more 5"),
        (MODEL, "edge done: wait", "edge done: signal"),
        (MODEL, "tell(done", "tell(counts"),
        (MODEL, "/* edge poison: signal */", ""),
        (source, "edge done: signal", "edge done: signals"),
        (source, "edge done: signal", "edge none: signal"),
        (source, "edge done: signal", ""),
        (source, "edge done:", "edge dones:"),
        (source, "// edge done: wait", "// waits"),
        (source, "poison: signal, wait", "poison: wait"),
        (source, "wait(m, Edge::done);\n", "x;\ny;\n"),
    ]
    for path, old, new in breaks:
        assert old in good[path] and check({**good, path: good[path].replace(old, new)}), (path, old, new)
    assert check({path: text for path, text in good.items() if path != MODEL})
    assert not check({path: text for path, text in good.items() if not path.startswith("src/")})


def main():
    self_test()
    root = common.repository_root()
    paths = [path for path in common.files(root) if path in (LIST, MODEL, DOCUMENT, LOOPS)]
    paths += common.files(root, (SOURCES,), common.CPP_ENDINGS)
    texts = {path: common.read(root, path) for path in paths}
    common.finish("edges", check(texts), f"{len(paths)} files")


if __name__ == "__main__":
    main()
