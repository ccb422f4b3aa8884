"""The commands: what they ask for, how they show it, and how they fail. The real exchange has its own tests of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ciyuan.cli import main

from tests.sdk.endpoint import Endpoint

SDK = Path(__file__).parents[2] / "sdk"
PROGRAM = f"import sys; sys.path.insert(0, {str(SDK)!r}); from ciyuan.cli import main; main()"
MARKETS = [
    {
        "id": 12,
        "grade_slug": "通义-32b",
        "phase": "call",
        "window_start": "2026-11-20T16:00:00Z",
        "window_end": "2026-11-21T01:00:00Z",
        "call_closes_at": None,
        "cap_price": "0.0000040",
    },
    {
        "id": 7,
        "grade_slug": "deepseek-v3-realtime",
        "phase": "settled",
        "window_start": "2026-11-19T16:00:00Z",
        "window_end": "2026-11-20T01:00:00Z",
        "cap_price": None,
    },
]


@pytest.fixture
def exchange(monkeypatch):
    with Endpoint() as server:
        monkeypatch.setenv("CIYUAN_URL", server.url)
        monkeypatch.setenv("CIYUAN_API_KEY", "ck_test")
        server.routes["GET", "/v1/markets"] = (200, {"items": MARKETS, "next_cursor": None})
        yield server


@pytest.fixture
def ciyuan(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_lists_are_tables_in_the_time_of_shanghai(ciyuan, exchange):
    code, out, _ = ciyuan("market", "list")
    assert code == 0
    assert out.splitlines() == [
        "id  grade                 window start      window end        call closes at  phase    cap price"
        "  reference price",
        "12  通义-32b              2026-11-21 00:00  2026-11-21 09:00                  call     0.0000040",
        " 7  deepseek-v3-realtime  2026-11-20 00:00  2026-11-20 09:00                  settled",
    ]


def test_json_is_what_the_exchange_said(ciyuan, exchange):
    _, out, _ = ciyuan("market", "list", "--json")
    assert json.loads(out) == MARKETS


def test_an_order_from_the_command_line(ciyuan, exchange):
    exchange.routes["POST", "/v1/orders"] = (202, {"id": "0192", "market": 12, "side": "buy", "status": "accepted"})
    code, out, _ = ciyuan(
        "order", "buy", "--market", 12, "--quantity", 5_000_000, "--price", "¥0.0000021", "--tif", "IOC",
        "--field", "post_only=true", "--idempotency-key", "k-1",
    )  # fmt: skip
    assert code == 0
    assert "0192" in out
    _, _, _, headers, body = exchange.requests[0]
    assert headers["Idempotency-Key"] == "k-1"
    assert json.loads(body) == {
        "market": 12,
        "side": "buy",
        "type": "limit",
        "price": "0.0000021",
        "quantity": 5_000_000,
        "time_in_force": "ioc",
        "post_only": True,
    }


def test_capacity_for_a_window(ciyuan, exchange):
    exchange.routes["POST", "/v1/capacity"] = (201, {"id": 3})
    code, _, err = ciyuan(
        "capacity", "publish", "--deployment", 1, "--from", "2026-11-21T00:00:00+08:00", "--to",
        "2026-11-21T09:00:00+08:00", "--quantity", 1000, "--tokens-per-minute", 10, "--reserve", "0.000001",
        "--list", "0.000004",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(exchange.requests[0][4])["window"]["start"] == "2026-11-21T00:00:00+08:00"


def test_an_invoice_is_saved(ciyuan, exchange, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exchange.routes["GET", "/v1/invoices/5.pdf"] = (200, b"%PDF-1.7")
    exchange.routes["GET", "/v1/invoices/5.csv"] = (200, b"line,amount\n")
    assert ciyuan("invoice", "download", 5)[1] == "invoice-5.pdf (8 bytes)\n"
    assert (tmp_path / "invoice-5.pdf").read_bytes() == b"%PDF-1.7"
    ciyuan("invoice", "download", 5, "--format", "csv", "-o", "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"line,amount\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("market", "show", 99), "not-found: nothing here [request req-12345678]"),
        (("order", "buy", "--market", 1, "--quantity", 5, "--price", "cheap"), "'cheap' is no number such as 0.0035"),
        (("order", "buy", "--quantity", 5), "'--market'"),
        (("order", "bye"), "did you mean 'buy'"),
        (("usage", "--from", "2026-11-20T00:00:00"), "has no time zone"),
        (
            (
                "capacity",
                "publish",
                "--deployment",
                1,
                "--quantity",
                5,
                "--tokens-per-minute",
                1,
                "--reserve",
                1,
                "--list",
                2,
            ),
            "--from",
        ),
        (("--url", "localhost", "market", "list"), "begins with http:// or https://"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_1(ciyuan, exchange, arguments, words):
    code, out, err = ciyuan(*arguments)
    assert (code, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


# -- metering from log files -------------------------------------------------------------------------------------------

LITELLM = {
    "id": "chatcmpl-9",
    "endTime": 1763700000.5,
    "end_user": "cust-7",
    "model": "Qwen3-32B",
    "status": "success",
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "messages": [{"role": "user", "content": "a secret question"}],
    "response": "a secret answer",
    "metadata": {"user_api_key_alias": "team-a", "usage_object": {"prompt_tokens_details": {"cached_tokens": 4}}},
}
SPEND_ROW = {
    "request_id": "req-5",
    "startTime": "2026-11-20T10:00:00",
    "endTime": "2026-11-20T10:00:02",
    "api_key": "hash",
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "metadata": '{"user_api_key_alias": "team-a"}',
}
FLAT = {"subject": "42", "time": "2026-11-20T18:00:00+08:00", "input_tokens": 8, "output_tokens": 1}


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def test_a_file_is_sent_line_by_line_and_again_without_doubling(ciyuan, exchange, tmp_path):
    log = tmp_path / "usage.ndjson"
    cloud_event = {
        "specversion": "1.0",
        "type": "ciyuan.usage",
        "id": "e-1",
        "source": "other",
        **FLAT,
        "data": {"input_tokens": 1},
    }
    log.write_text(lines(FLAT, FLAT, LITELLM, SPEND_ROW, cloud_event, ""))
    first = ciyuan("meter", "send", log, "--source", "log-1", "--spool", tmp_path / "a")
    assert first == (0, "5 events acknowledged\n", "")
    assert len(exchange.events) == 5  # two equal lines are two requests
    by_id = {id_: event for (_, id_), event in exchange.events.items()}
    assert by_id["chatcmpl-9"] == {
        "specversion": "1.0",
        "type": "ciyuan.usage",
        "id": "chatcmpl-9",
        "source": "log-1",
        "subject": "cust-7",
        "time": "2025-11-21T04:40:00.500000+00:00",
        "data": {
            "format": "litellm",
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 4}}},
            },
            "model": "Qwen3-32B",
            "status": "success",
        },
    }
    assert (by_id["req-5"]["subject"], by_id["req-5"]["time"]) == ("team-a", "2026-11-20T10:00:02+00:00")
    assert ("other", "e-1") in exchange.events
    assert b"secret" not in b"".join(body for *_, body in exchange.requests)
    again = ciyuan("meter", "send", log, "--source", "log-1", "--spool", tmp_path / "b")
    assert again == (0, "5 events acknowledged\n", "")
    assert len(exchange.events) == 5


def test_bad_lines_are_named_and_do_not_stop_the_rest(ciyuan, exchange, tmp_path):
    log = tmp_path / "usage.ndjson"
    log.write_text(lines(FLAT, "{", "[1]", {"input_tokens": 3}, {"subject": "42"}, {**FLAT, "id": "z"}))
    code, out, err = ciyuan("meter", "send", log, "--source", "s", "--spool", tmp_path / "spool")
    assert code == 1
    assert out == "2 events acknowledged\n"
    complaints = err.splitlines()
    assert [line.split(":")[0] for line in complaints] == ["line 2", "line 3", "line 4", "line 5", "ciyuan"]
    assert "names no subject" in complaints[2]
    assert complaints[4] == "ciyuan: 4 lines are no events"


def test_refused_events_are_shown_afterwards(ciyuan, exchange, tmp_path):
    exchange.refuse["z"] = ("unknown-subject", "no contract is named so", "subject")
    log = tmp_path / "usage.ndjson"
    log.write_text(lines({**FLAT, "id": "z"}, FLAT))
    code, _, err = ciyuan("meter", "send", log, "--source", "s", "--spool", tmp_path / "spool")
    assert code == 1
    assert "1 events were refused" in err
    code, out, _ = ciyuan("meter", "rejected", "--source", "s", "--spool", tmp_path / "spool")
    assert "z  unknown-subject: no contract is named so" in out


def test_tail_goes_on_where_it_was_across_rotation_and_restart(ciyuan, exchange, tmp_path):
    log = tmp_path / "gateway.log"
    arguments = ("meter", "tail", log, "--source", "s", "--spool", tmp_path / "spool", "--once")
    assert ciyuan(*arguments)[0] == 0  # nothing there yet
    log.write_text(lines(FLAT, FLAT) + '{"half')
    ciyuan(*arguments)
    assert len(exchange.events) == 2
    with log.open("a") as file:
        file.write('": 1, ' + json.dumps(FLAT)[1:] + "\n")
    ciyuan(*arguments)
    assert len(exchange.events) == 3
    ciyuan(*arguments)
    assert len(exchange.order) == 3
    log.rename(tmp_path / "gateway.log.1")
    log.write_text(lines(FLAT))
    ciyuan(*arguments)
    assert len(exchange.events) == 4
    log.write_text("")  # truncated in place, then written anew
    ciyuan(*arguments)
    log.write_text(lines({**FLAT, "output_tokens": 2}))
    ciyuan(*arguments)
    assert len(exchange.events) == 5
    # Renamed with unread lines, and truncated and grown beyond the old place, while nobody looked.
    with log.open("a") as file:
        file.write(lines({**FLAT, "output_tokens": 3}))
    log.rename(tmp_path / "gateway.log.1")
    log.write_text(lines(FLAT, FLAT))
    ciyuan(*arguments)
    assert len(exchange.events) == 8
    log.write_text(lines(*({**FLAT, "output_tokens": 4} for _ in range(9))))
    ciyuan(*arguments)
    assert len(exchange.events) == 17


def test_a_tail_that_is_killed_loses_and_doubles_nothing(exchange, tmp_path):
    log = tmp_path / "gateway.log"
    log.touch()
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "meter",
        "tail",
        str(log),
        "--source",
        "s",
        "--spool",
        str(tmp_path / "spool"),
    ]
    for round_ in range(3):
        process = subprocess.Popen([*command, "--every", "0.05"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with log.open("a") as file:
            for n in range(300):
                file.write(json.dumps({**FLAT, "id": f"{round_}-{n}"}) + "\n")
                if n % 100 == 0:
                    file.flush()
                    time.sleep(0.2)
        wanted = 100 * round_
        deadline = time.monotonic() + 20
        while len(exchange.events) <= wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run([*command, "--once"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(exchange.order) == sorted(f"{round_}-{n}" for round_ in range(3) for n in range(300))
