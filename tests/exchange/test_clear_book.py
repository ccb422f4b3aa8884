"""`manage.py clear_book`: the issue's worked cases as files, and a precise sentence for everything that is no book."""

import io
import json
import sys

import pytest
from django.core.management import CommandError, call_command

WORKED = {"bids": [[202, 400], [201, 200]], "asks": [[199, 300], [198, 200]], "reference": None}


def run(*files):
    """Run the command; return its status, the decoded lines of its output, and what it said on standard error."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    try:
        call_command("clear_book", *map(str, files), stdout=out, stderr=err)
    except CommandError as error:
        status = error.returncode
    return status, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def given_file(folder, content, name="book.json"):
    """Write content (text, bytes or something to encode as JSON) to a file."""
    path = folder / name
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return path


def test_prints_one_line_a_book_with_fills_in_input_order(tmp_path):
    status, (line,), err = run(given_file(tmp_path, WORKED))
    assert (status, err) == (0, "")
    assert line == {
        "price": 201, "volume": 500, "surplus": 100, "rule": "bid_surplus", "rule_number": 4,
        "best_bid": 202, "best_ask": 198, "bid_fills": [400, 100], "ask_fills": [300, 200],
    }


def test_nothing_executable_has_no_price_and_the_best_limits(tmp_path):
    _, (line,), _ = run(given_file(tmp_path, {"bids": [[9, 1]], "asks": [[11, 2]], "reference": 10}))
    assert (line["price"], line["volume"], line["surplus"]) == (None, 0, 0)
    assert (line["best_bid"], line["best_ask"], line["bid_fills"], line["ask_fills"]) == (9, 11, [0], [0])


def test_several_files_arrays_and_lines(tmp_path):
    one = given_file(tmp_path, WORKED, "one.json")
    array = given_file(tmp_path, [WORKED, WORKED], "array.json")
    lines = given_file(tmp_path, f"{json.dumps(WORKED)}\n{json.dumps(WORKED)}\n", "lines.jsonl")
    status, cleared, err = run(one, array, lines)
    assert (status, len(cleared), err) == (0, 5, "")


def test_reads_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(WORKED).encode())))
    assert run("-")[1][0]["price"] == 201


def test_pro_rata_and_tick(tmp_path):
    book = {"bids": [[15, 10], [15, 30]], "asks": [[10, 20]], "reference": None, "tick": 5, "margin": "pro_rata"}
    assert run(given_file(tmp_path, book))[1][0]["bid_fills"] == [5, 15]
    middle = {"bids": [[15, 10]], "asks": [[10, 10]], "tick": 5}
    assert run(given_file(tmp_path, middle))[1][0]["price"] == 15


@pytest.mark.parametrize(("content", "sentence"), [
    ("", "This is not JSON: Expecting value at line 1, column 1."),
    ("{", "This is not JSON"),
    (b"\xff\xfe", "The file is not UTF-8"),
    ("[" * 100_000, "cannot be read"),
    ([], 'A book is an object with "bids", "asks" and "reference", not [].'),
    (7, "not 7."),
    ({"asks": []}, '"bids" is missing.'),
    ({"bids": []}, '"asks" is missing.'),
    ({"bids": [], "asks": [], "refrence": 4}, '"refrence" is not a key of a book'),
    ('{"bids": [], "bids": [], "asks": []}', "A key is given twice in one object."),
    ({"bids": {}, "asks": []}, '"bids" must be a list of [price or null, lots], not {}.'),
    ({"bids": [[1, 2, 3]], "asks": []}, "bids[0] must be [price or null, lots], not [1, 2, 3]."),
    ({"bids": [], "asks": [[1, 2], 5]}, "asks[1] must be [price or null, lots], not 5."),
    ({"bids": [[1.5, 2]], "asks": []}, "The price of bids[0] must be a whole number, not 1.5."),
    ({"bids": [["1", 2]], "asks": []}, 'The price of bids[0] must be a whole number, not "1".'),
    ({"bids": [[True, 2]], "asks": []}, "The price of bids[0] must be a whole number, not true."),
    ({"bids": [[-1, 2]], "asks": []}, "The price of bids[0] must be from 1 to 4611686018427387904, not -1."),
    ({"bids": [[1, 0]], "asks": []}, "The quantity of bids[0] must be from 1 to 9223372036854775807, not 0."),
    ({"bids": [[1, 2**63]], "asks": []}, "not 9223372036854775808."),
    ({"bids": [[1, None]], "asks": []}, "The quantity of bids[0] must be a whole number, not null."),
    ('{"bids": [[1, NaN]], "asks": []}', "NaN is not a number that JSON knows."),
    ({"bids": [[1, 2**62], [1, 2**62]], "asks": []}, "One side of the book adds up to 9223372036854775808 lots"),
    ({"bids": [], "asks": [], "reference": "x"}, '"reference" must be a whole number, not "x".'),
    ({"bids": [], "asks": [], "margin": []}, '"margin" must be "time" or "pro_rata", not [].'),
    ({"bids": [[7, 1]], "asks": [], "tick": 5}, "The price of bids[0] must be a multiple of the tick 5, not 7."),
])
def test_what_is_no_book_is_named_and_the_others_are_cleared(tmp_path, content, sentence):
    bad, good = given_file(tmp_path, content, "bad.json"), given_file(tmp_path, WORKED, "good.json")
    status, cleared, err = run(bad, good)
    assert (status, [line["price"] for line in cleared]) == (1, [201])
    assert err.startswith(f"{bad}: ") and sentence in err


def test_one_bad_line_or_item_does_not_lose_its_neighbours(tmp_path):
    lines = given_file(tmp_path, f"{json.dumps(WORKED)}\nnonsense\n{json.dumps(WORKED)}", "lines.jsonl")
    array = given_file(tmp_path, [WORKED, 5], "array.json")
    status, cleared, err = run(lines, array)
    assert (status, len(cleared)) == (1, 3)
    assert f"{lines}, line 2: This is not JSON" in err and f"{array}, book 2: A book is an object" in err


def test_a_file_that_is_not_there(tmp_path):
    status, cleared, err = run(tmp_path / "none.json", given_file(tmp_path, WORKED))
    assert (status, len(cleared)) == (1, 1)
    assert "The file cannot be read: No such file or directory." in err
