"""Pages and figures in other languages: every sentence is there, and values stay what they are."""

import ast
import base64
import json
import re
import sys
import warnings
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes
from matplotlib import font_manager, ft2font

import dr_tfx
from dr_tfx import tasks
from dr_tfx.evaluation import compare_figures, evaluate
from dr_tfx.reports import style
from dr_tfx.tasks.judging import Measure
from dr_tfx.words import fonts, languages
from tests.helpers import evaluated, ready, screening

ROOT = Path(dr_tfx.__file__).parent
OTHERS = languages.codes()[1:]
TEMPLATES = sorted(
    path for path in ROOT.rglob("templates/*.html.j2") if path.name != "clinic.html.j2"
)
JOBS = ROOT.parent / "beam_jobs"
# Modules whose sentences pages and figures show.
SPEAKING = [
    JOBS / "build_examples" / "contact_sheet.py",
    *(JOBS / "explain" / f"{name}.py" for name in ("mask_measures", "page", "plan", "results")),
    *ROOT.glob("tasks/*/report_figures.py"),
    *ROOT.glob("tasks/*/comparison.py"),
    *ROOT.glob("tasks/*/judgement.py"),
    *ROOT.glob("tasks/*/scores.py"),
    *ROOT.glob("tasks/*/summary.py"),
    *(
        ROOT / name
        for name in (
            "serving/page_words.py",
            "dataset/leakage.py",
            "evaluation/compare_figures.py",
            "evaluation/evaluate.py",
            "evaluation/fold_figures.py",
            "evaluation/one_numbers.py",
            "evaluation/out_of_fold.py",
            "evaluation/probe.py",
            "evaluation/report.py",
            "evaluation/scored.py",
            "explanation/figures.py",
            "inference/drift.py",
            "inference/drift_page.py",
            "reports/confusion.py",
            "reports/learning_curves.py",
            "reports/reliability.py",
            "statistics/calibration.py",
            "statistics/operating_points.py",
            "tasks/alarms.py",
            "tasks/binary/alarms.py",
        )
    ),
]
# What only a terminal shows, or nobody: alarms of training, errors, places of legends.
UNSEEN = {"OVER", "TRUTH", "_BELOW", "alarm_over", "collapsed", "fitted_from", "loc", "wrong_with"}


def test_english_needs_no_catalogue():
    english = languages.of("en")
    assert english.template("A  sentence\n  over two lines.") == "A sentence over two lines."
    assert english.said("AUC .5") == "AUC .5"
    with pytest.raises(ValueError, match=r"no language 'xx'; expected one of en, ko"):
        languages.of("xx")


def test_what_is_spoken_ends_with_its_block():
    with languages.speaking("ko") as korean, languages.speaking("en"):
        assert korean.code == "ko" and languages.current().code == "en"
    assert languages.current().code == "en"


def test_a_finished_sentence_is_found_by_its_words_and_keeps_its_values():
    made_up = languages.Language(
        "xx",
        templates={"{n} of {all}": "{n} de {all}"},
        sentences={
            "none": "nada",
            "{n} images": "{n} imágenes",
            "{n} images of {who}": "{n} imágenes de {who}",
            "Too few: {reasons}.": "Pocas: {reasons:list}.",
            "So to say: {text}!": "Así: {text:words}!",
        },
    )
    assert made_up.said("none") == "nada"
    # The longest line that fits counts. A name is a name, even if it is also a word of the page.
    assert made_up.said("3 images of none") == "3 imágenes de none"
    assert made_up.said("Too few: 3 images; 4 images, none.") == (
        "Pocas: 3 imágenes; 4 imágenes, nada."
    )
    assert made_up.said("So to say: 3 images of a, b!") == "Así: 3 imágenes de a, b!"
    # Templates write with their lines, and nobody is taken for having said them.
    assert made_up.template("{n} of {all}") == "{n} de {all}"
    assert made_up.said("3 of none") == "3 of none"
    # A value with braces is no place for another value.
    assert made_up.said("3 images of {x}") == "3 imágenes de {x}"
    # A name of someone's data set is no sentence on a number of images.
    assert made_up.said("1,234 images") == "1,234 imágenes"
    assert made_up.said("drawn images") == "drawn images"


@pytest.mark.parametrize("code", OTHERS)
def test_sentences_have_the_same_values_in_each_language(code):
    catalogue = languages.of(code).catalogue
    wrong = [k for k, v in catalogue.items() if languages.places(k) != languages.places(v)]
    assert not wrong
    assert catalogue[languages.NAME]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_every_sentence_of_a_template_is_in_each_language(path):
    tree = jinja2.Environment().parse(path.read_text())
    said = [call.args[0] for call in tree.find_all(nodes.Call) if _is_mark(call)]
    assert all(isinstance(sentence, nodes.Const) for sentence in said)
    for code in OTHERS:
        catalogue = languages.of(code).catalogue
        missing = {" ".join(one.value.split()) for one in said} - catalogue.keys()
        assert not missing, code


def _is_mark(call: nodes.Call) -> bool:
    return isinstance(call.node, nodes.Name) and call.node.name == "_"


_CODE = re.compile(r"(?s)<(style|script).*?</\1>|\{% block style %}.*?\{% endblock %}")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_a_template_has_no_words_that_are_not_marked(path):
    tree = jinja2.Environment().parse(_CODE.sub("", path.read_text()))
    text = "\n".join(data.data for data in tree.find_all(nodes.TemplateData))
    words = re.findall(r"[A-Za-z]{3,}", re.sub(r"<[^<>]*>?|[\w-]+=\"[^\"]*\"?|^[^<>]*>", " ", text))
    assert set(words) <= {"AUC", "AUPR", "Dice", "IoU", "FROC"}


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: f"{path.parts[-2]}-{path.name}")
def test_every_sentence_of_the_code_is_in_each_language(path):
    for code in OTHERS:
        known = "\n".join(re.sub(r"\{.*?\}", "{}", k) for k in languages.of(code).catalogue).lower()
        said = _sentences(ast.parse(path.read_text()))
        assert not [text for text in said if text.lower() not in known]


def _sentences(tree: ast.AST) -> Iterator[str]:
    """The texts between the values of each sentence of a module.

    Docstrings, errors, types and what is logged are left out.
    """
    for node in ast.iter_child_nodes(tree):
        names = {getattr(node, "name", None), getattr(node, "arg", None)}
        names |= {t.id for t in getattr(node, "targets", ()) if isinstance(t, ast.Name)}
        names |= {getattr(getattr(node, "target", None), "id", None)}
        is_unseen = isinstance(node, ast.Raise) or not UNSEEN.isdisjoint(names)
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_unseen or is_docstring:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for part in re.split(r"\{.*?\}", node.value):
                words = len(re.findall(r"[A-Za-z]{2,}", part))
                if words > 1 and " " in part.strip() and not re.search(r"\||%[sd]", part):
                    yield part
        yield from _sentences(node)


def _written(folder: Path, code: str) -> Path:
    folder.mkdir()
    screening.history().to_csv(folder / "history.csv", index=False)
    scored = screening.scored(screening.predictions(40), workdir=folder)
    with languages.speaking(code):
        return evaluate.write(scored, evaluate.metrics_of(scored))


def test_a_report_is_in_korean_but_for_names_and_files_for_machines(tmp_path):
    page = _written(tmp_path / "ko", "ko")
    html, metrics = page.read_text(), json.loads((page.parent / "metrics.json").read_text())
    assert '<html lang="ko">' in html
    assert "Read with care" not in html and "주의해서 읽으십시오" in html
    # An alarm, and what the JSON file says of it.
    assert metrics["selection"]["notes"][-1] == (
        "The checkpoint was chosen on this split: optimistic."
    )
    assert "체크포인트를 이 분할에서 선택했으므로 낙관적입니다." in html
    shown = re.sub(r"<(style|script|pre|code).*?</\1>", " ", html, flags=re.DOTALL)
    text = unescape(re.sub(r"<[^>]+>", "|", shown))
    sentences = re.findall(r"(?:[A-Za-z']{2,} ){3,}[A-Za-z']{2,}", text)
    assert not [one for one in sentences if not one.startswith(("horizontal", "none mild"))]
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    words = {
        word
        for drawing in drawings
        for word in re.findall(
            r">([^<>]*[A-Za-z]{3,}[^<>]*)</text>", base64.b64decode(drawing).decode()
        )
    }
    named = re.compile(r"normal|none|mild|moderate|severe|proliferative|AUC|ECE|Youden")
    assert not [word for word in words if not named.search(word)]


@pytest.mark.parametrize("name", sorted(tasks.KINDS))
def test_the_number_of_a_heat_map_is_a_word_of_each_language(name):
    kind = tasks.of(tasks.defaults(name))
    explained, truth = kind.scores.explained, "   truth a" * (len(kind.data.groups) > 1)
    if explained:
        caption = f"eye{truth}   {explained} 0.500   decision b"
        for language in map(languages.of, OTHERS):
            assert explained not in language.said(caption) + language.said(explained)


def test_a_cut_of_a_scale_is_said_whole_where_it_stands_in_a_sentence():
    said = languages.of("ko").said
    assert said("mean probability of mild or above") == "mild 이상일 확률의 평균"
    assert said("probability of mild or above") == "mild 이상일 확률"
    assert said("mild or above, 0.965") == "mild 이상, 0.965"


def test_measures_are_words_and_runs_are_names_in_a_figure():
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    result = {
        "runs": [{"name": "first"}, {"name": "run"}],
        "differences": [{"name": "run", "sensitivity": interval}],
    }
    measures = [Measure("sensitivity", "Sensitivity", "percent")]
    with languages.speaking("ko"):
        drawn = compare_figures.draw_differences(result, measures)
    assert drawn.title == "first 대비 차이"
    assert all(f">{word}<" in drawn.svg for word in ("민감도", "run", "← 더 나쁨\u2003더 좋음 →"))


def test_a_command_is_told_the_language(tmp_path):
    runs = [evaluated.run(tmp_path / name, evaluated.predictions(1.0)) for name in "ab"]
    words = [*map(str, runs), f"--output_dir={tmp_path / 'out'}", "--lang=ko"]
    done = ready.run([sys.executable, "-m", "dr_tfx.cli.compare", *words])
    assert done.returncode == 0, done.stderr
    assert '<html lang="ko">' in (tmp_path / "out" / "compare.html").read_text()


def test_names_in_hangul_are_drawn(tmp_path):
    """Every syllable has a shape in one of the typefaces, so that no box is drawn."""
    files = [font_manager.findfont(family) for family in fonts.families()]
    has = set().union(*(ft2font.FT2Font(file).get_charmap() for file in files))
    assert has >= set(range(0xAC00, 0xD7A4)) | set(map(ord, "−–≥·…←→"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = style.draw(
            "f", lambda axes: axes[0].set_title("환자_0012_왼쪽눈 뷁"), title="t", alt="a"
        )
    assert "환자_0012_왼쪽눈 뷁" in drawn.svg
