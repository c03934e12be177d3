"""Tables that are made to hurt: what they cost is bounded, and nothing they name is opened.

Cells that stand once in a file and often in its rows are in `tests/unit/test_parquet.py`.
"""

import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.api.conftest import Site, problem_of

MIB = 1024**2
KINDS = {"image": "Image", "audio": "Audio", "video": "Video", "pdf": "Pdf"}


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _millions_of_nulls() -> bytes:
    file = io.BytesIO()
    table = pa.table({"text": pa.nulls(1_000_000, pa.string())})
    with pq.ParquetWriter(file, table.schema) as writer:
        for _ in range(51):
            writer.write_table(table)
    return file.getvalue()


def _many_columns() -> bytes:
    return _parquet(pa.table({f"c{number}": [1] for number in range(2_000)}))


def _many_leaves() -> bytes:
    row = {f"c{number}": 1 for number in range(10_001)}
    return _parquet(pa.table({"text": ["a"], "more": [row]}))


def _footer_beyond_the_file() -> bytes:
    content = _parquet(pa.table({"text": ["a"]}))
    return content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1"


def _footer_of_nothing() -> bytes:
    return b"PAR1" + bytes(4) + b"PAR1"


def _encrypted() -> bytes:
    """A file whose footer is encrypted begins and ends with another mark."""
    content = _parquet(pa.table({"text": ["a"] * 100}))
    return b"PARE" + content[4:-4] + b"PARE"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(_millions_of_nulls, "more than 50,000,000 rows", id="rows of nothing"),
        pytest.param(_many_columns, "more than 1,000 columns", id="2,000 columns"),
        pytest.param(_many_leaves, "more than 1,000 columns", id="columns in a column"),
        pytest.param(_footer_beyond_the_file, "cannot be read", id="a footer beyond the file"),
        pytest.param(_footer_of_nothing, "cannot be read", id="a footer of nothing"),
        pytest.param(_encrypted, "line 1: not JSON", id="encrypted"),
    ],
)
def test_a_parquet_file_that_costs_too_much_is_refused(
    site: Site, make: Callable[[], bytes], words: str
) -> None:
    error = problem_of(site.post_file(make(), name="rows.parquet"), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "file")
    assert words in error["message"]
    assert site.stored() == []


def test_nothing_that_a_table_names_is_opened(site: Site, tmp_path: Path) -> None:
    """`datasets` would fetch what columns of pictures name; here they are texts like others."""
    secret = tmp_path / "secret"
    secret.write_text("canary")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        names = [f"http://127.0.0.1:{listener.getsockname()[1]}/x.png", str(secret)]
        features = {name: {"_type": kind} for name, kind in KINDS.items()}
        about = json.dumps({"info": {"features": features}})
        pictures: list[dict[str, Any]] = [{"bytes": None, "path": name} for name in names]
        columns = dict.fromkeys(KINDS, pictures)
        table = pa.table({"text": ["a", "b"], **columns})
        table = table.replace_schema_metadata({"huggingface": about})

        response = site.post_file(_parquet(table), name="rows.parquet")

        with pytest.raises(BlockingIOError):
            listener.accept()
    report = response.json()["report"]
    assert (response.status_code, report["rows"]) == (200, 2)
    assert report["sample"]["image"] == {"bytes": None, "path": names[0]}
    assert "canary" not in response.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(
            b'text\n"' + b"a" * 20 * MIB, "longer than 16 MiB", id="a cell without an end"
        ),
        pytest.param(
            b",".join(b"c%d" % n for n in range(10**5)) + b"\n",
            "names more than 10,000 columns",
            id="columns",
        ),
        pytest.param(b"text\n\xff\n", "not UTF-8", id="no UTF-8"),
        pytest.param(b"text,text\na,b\n", 'names "text" twice', id="a name twice"),
    ],
)
def test_a_csv_file_that_costs_too_much_is_refused(site: Site, content: bytes, words: str) -> None:
    error = problem_of(site.post_file(content, name="rows.csv"), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "file")
    assert words in error["message"]
    assert site.stored() == []


@pytest.mark.parametrize(
    "cell",
    [
        "=HYPERLINK(1)",
        "+cmd|' /C calc'!A0",
        "@SUM(1)",
        "-1+1",
        "\tx",
        "=1\N{RIGHT-TO-LEFT OVERRIDE}",
    ],
)
def test_formulas_are_data_like_all_else(site: Site, cell: str) -> None:
    """What is uploaded comes back as it is; only what we write as CSV ourselves is made safe."""
    content = f"text\n{cell}\n".encode()

    file_id = site.upload(content, name="rows.csv")

    assert site.client.get(f"/v1/files/{file_id}/content").content == content
    report = site.client.get(f"/v1/files/{file_id}").json()["report"]
    assert report["sample"] == {"text": cell}
