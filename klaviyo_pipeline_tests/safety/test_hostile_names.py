"""Anyone with access to the account can choose names: they are stored unchanged, break nothing, control no terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.klaviyo.escape import unescape
from klaviyo_pipeline.sandbox.sandbox_account import Message
from klaviyo_pipeline_tests.support import SLUG, Pipeline, put, utc

pytestmark = pytest.mark.slow

DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")
NAMES = {
    "plain": "Welcome",
    "nul": "before\0after",
    "lone": "half \ud83d of a pair",
    "sql": "'); DROP SCHEMA shop CASCADE; -- $$ %s %(x)s :x {} \" ",
    "copy": "\\N\t\\.\n",
    "formula": '=HYPERLINK("http://evil.example","win")',
    "at": "@SUM(1+1)",
    "escape": "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "bidi": "\u202egnp.exe",
    "markup": "[red]not red[/red] [link=http://evil.example]x[/link]",
    "line": "one\r\ntwo\u2028three",
    "long": "x" * 1_000_000,
}
STORED = {
    "flows": "name",
    "campaigns": "name",
    "forms": "name",
    "segments": "name",
    "flow_messages": "name",
    "campaign_messages": "label",
    "tags": "name",
}


@pytest.fixture
def hostile(recorded: Pipeline) -> Pipeline:
    shop = recorded.shop
    for id, name in NAMES.items():
        message = Message(f"{id}-message", "email", name)
        put(shop, "flows", id, NOON, name=name, status="live", messages=[message], tags=[id])
        put(shop, "campaigns", id, NOON, name=name, messages=[message], send_time=NOON)
        put(shop, "forms", id, NOON, name=name)
        put(shop, "segments", id, NOON, name=name, definition={name[:100]: [name]})
        shop.tags[id] = name
        groups = {"flow_id": id, "flow_message_id": f"{id}-message", "send_channel": "email"}
        shop.set_figures("flow", groups, NOON.date(), {"recipients": 10, "delivered": 9})
    return recorded


def sync(pipeline: Pipeline) -> None:
    for asset in ("flows", "campaigns", "forms", "segments", "flow_report", "flow_metrics"):
        pipeline.run(asset, DAY)
    for asset in ("flows_census", "campaigns_census", "tags"):
        pipeline.run(asset)


def test_every_name_is_stored_in_every_table_and_printed_without_control_characters(
    hostile: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(hostile)
    for table, column in STORED.items():
        found = {id.removesuffix("-message"): name for id, name in hostile.rows(f"SELECT id, {column} FROM {table}")}
        assert {id: unescape(name) for id, name in found.items()} == NAMES, table
    assert {id: unescape(name) for id, name in hostile.rows("SELECT flow_id, flow_name FROM flow_metrics")} == NAMES
    assert hostile.one("SELECT count(*) FROM flows_history WHERE valid_to IS NOT NULL") == 0
    definitions = dict(hostile.rows("SELECT id, definition FROM segments"))
    for id, name in NAMES.items():
        [(key, [value])] = definitions[id].items()
        assert (unescape(key), unescape(value)) == (name[:100], name)
    assert set(hostile.rows("SELECT status FROM sync_windows")) == {"synced"}

    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    metrics = ("metrics", "--from", DAY, "--to", DAY)
    for arguments in (("list", "flows"), metrics, ("get", "flows", "escape"), ("status",)):
        assert harmless(run(arguments, capsys)), arguments
    for arguments in (("list", "flows", "--format", "json"), (*metrics, "--format", "json")):
        text = run(arguments, capsys)
        assert harmless(text)
        output = {row.get("id", row.get("flow_id")): row.get("name", row.get("flow_name")) for row in json.loads(text)}
        assert {id: unescape(name) for id, name in output.items()} == NAMES
    csv.field_size_limit(2_000_000)
    rows = csv.DictReader(io.StringIO(run((*metrics, "--format", "csv"), capsys), newline=""))
    names = {row["flow_id"]: row["flow_name"] for row in rows}
    assert names["formula"] == "'" + NAMES["formula"]
    assert names["at"] == "'" + NAMES["at"]
    quoted = {"formula", "at"}
    assert {id: unescape(name) for id, name in names.items() if id not in quoted} == {
        id: name for id, name in NAMES.items() if id not in quoted
    }


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return out


def harmless(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)
