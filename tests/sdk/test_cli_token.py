"""`ciyuan token …` through its door: the process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ciyuan.cli import main

SDK = Path(__file__).parents[2] / "sdk"


@pytest.fixture
def ciyuan(capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_the_program_starts_as_a_process_and_keeps_its_exit_code():
    code = f"import sys; sys.path.insert(0, {str(SDK)!r}); from ciyuan.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "tokne"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ciyuan: no such command 'tokne'; did you mean 'token'?\n"


def test_explain_prints_the_sum_line_by_line(ciyuan):
    code, out, err = ciyuan(
        "token", "explain", "--model", "reference-7b", "--input", "4808", "--cached", "4096", "--output", "10"
    )
    assert code == 0, err
    assert "118,223,031 + 62,763,577 + 14,495,340 = 195,481,948 micro-ST" in out
    assert "712 × 2 × 7,000,000,000" in out


def test_explain_as_json(ciyuan):
    _, out, _ = ciyuan("token", "explain", "--model", "reference-7b", "--input", "4808", "--output", "10", "--json")
    printed = json.loads(out)
    assert printed["micro_st"] == {"input": 745_858_803, "cached_input": 0, "output": 14_495_340}
    assert printed["total_micro_st"] == 760_354_143


def test_a_card_from_a_file(ciyuan, tmp_path):
    card = tmp_path / "my card.json"
    card.write_text(
        json.dumps(
            {
                "active_params": 70_000_000_000,
                "active_weight_bytes": 140_000_000_000,
                "attention": [{"layers": 80, "width": 8192, "kv_bytes": 4096, "span": None}],
            }
        )
    )
    _, out, _ = ciyuan("token", "explain", "--card", str(card), "--input", "1000", "--output", "300", "--json")
    micro_st = json.loads(out)["micro_st"]
    assert micro_st["input"] + micro_st["output"] == 3_582_623_695


def test_a_derived_card_is_what_explain_reads(ciyuan, tmp_path):
    _, derived, _ = ciyuan("token", "card", "--model", "Qwen3-32B", "--json")
    (tmp_path / "card.json").write_text(derived)
    _, by_file, _ = ciyuan(
        "token", "explain", "--card", str(tmp_path / "card.json"), "--input", "9", "--output", "9", "--json"
    )
    _, by_name, _ = ciyuan("token", "explain", "--model", "Qwen3-32B", "--input", "9", "--output", "9", "--json")
    assert json.loads(by_file)["micro_st"] == json.loads(by_name)["micro_st"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("token", "explain", "--model", "Qwen3-23B"), "did you mean Qwen3-32B"),
        (("token", "explain", "--model", "reference-7b", "--input", "-4"), "--input: input_tokens must be between 0"),
        (("token", "explain", "--model", "reference-7b", "--input", "4", "--cached", "5"), "--cached:"),
        (("token", "explain", "--model", "reference-7b", "--inptu", "4"), "--inptu"),
        (("token", "explain", "--model", "reference-7b", "--input", "many"), "many"),
        (("token", "explain"), "either --model NAME or --card FILE.json"),
        (("token", "explain", "--card", "nowhere.json"), "nowhere.json: no such file"),
        (("token", "explian"), "did you mean 'explain'"),
        (("tokne",), "did you mean 'token'"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_1(ciyuan, arguments, words):
    code, out, err = ciyuan(*arguments)
    assert code == 1
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_broken_card_file_is_named_with_line_and_column(ciyuan, tmp_path):
    card = tmp_path / "card.json"
    card.write_text('{"active_params": 7,\n')
    code, _, err = ciyuan("token", "explain", "--card", str(card))
    assert code == 1
    assert "line 2, column 1" in err
