import json

import pytest

from torchnle.data import (
    FactorAnnotation,
    factor_error_ratios,
    load_imagenet_x,
    load_imagenet_x_factors,
)
from torchnle.data.readers.imagenet_x import FACTORS

HEN = {"dataset": "imagenetX", "img_path": "hen/1.jpg", "answer": "hen", "explanation": "it has a red comb"}
OTHER = {"dataset": "vqaX", "img_path": "2.jpg", "answer": ["yes"], "explanation": ["it is."]}


def written(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize("content", [[HEN, OTHER], {"0": HEN, "9": OTHER}])
def test_lists_and_objects_of_records_are_read_and_other_tasks_left_out(tmp_path, content):
    (one,) = load_imagenet_x(written(tmp_path, content))
    assert (one.files, one.class_name, one.key) == (("hen/1.jpg",), "hen", "0")
    assert one.explanations == ("it has a red comb",)


def test_several_files_and_explanations_of_a_record_are_kept_in_order(tmp_path):
    record = {**HEN, "img_path": ["b.jpg", "a.jpg"], "explanation": ["it clucks", "it is brown"]}
    (one,) = load_imagenet_x(written(tmp_path, {"12": record}))
    assert (one.files, one.explanations) == (("b.jpg", "a.jpg"), ("it clucks", "it is brown"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "no JSON"),
        ("3", "int"),
        ([3], "record '0'"),
        ([OTHER], "1 records"),
        ([{**HEN, "explanation": []}], "explanation="),
        ([{key: value for key, value in HEN.items() if key != "answer"}], "answer=None"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, content, match):
    with pytest.raises(ValueError, match=match):
        load_imagenet_x(written(tmp_path, content))


def line(**changes):
    empty = dict.fromkeys(FACTORS, 0)
    return {"file_name": "a.JPEG", "class": 7, **empty, "justification": " a hen \n", **changes}


def test_factors_are_read_line_by_line(tmp_path):
    lines = [line(pose=1, darker=1), line(file_name="b.JPEG", one_word="dark")]
    file = written(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n")
    first, second = load_imagenet_x_factors(file)
    assert first == FactorAnnotation("a.JPEG", 7, ("pose", "darker"), "a hen")
    assert (second.factors, second.one_word) == ((), "dark")
    assert len(FACTORS) == len(set(FACTORS)) == 16


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "no line"),
        ("{", "line 1 of .* is no JSON"),
        ("[]", "lacks"),
        (json.dumps({**line(), "pose": 2}), "'pose': 2"),
        (json.dumps({**line(), "class": "hen"}), "index"),
        (json.dumps({key: value for key, value in line().items() if key != "style"}), "style"),
    ],
)
def test_lines_that_are_no_annotation_are_refused(tmp_path, content, match):
    with pytest.raises(ValueError, match=match):
        load_imagenet_x_factors(written(tmp_path, content))


def test_error_ratios_by_hand():
    images = [FactorAnnotation(str(i), 0, ("pose",) if i < 2 else ("style",)) for i in range(6)]
    found = factor_error_ratios(images, [False, False, True, True, True, False])
    assert found == {"pose": pytest.approx(2.0), "style": pytest.approx(0.5)}
    with pytest.raises(ValueError, match="5 answers"):
        factor_error_ratios(images, [True] * 5)
    with pytest.raises(ValueError, match="no error rate"):
        factor_error_ratios(images, [True] * 6)
