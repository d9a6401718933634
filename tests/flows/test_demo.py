"""The demonstration is the main job on real input; it is run whole, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

# One innocent endpoint in 35 is still undecided after 128 triggers, and then the verdict says so.
LET_GO = ("NOT_SUPPORTED", "INCONCLUSIVE")
EXPECTED = [
    ("stolen", "A", ("CONFIRMED",)),
    ("fine-tuned", "A", ("CONFIRMED",)),
    ("pruned", "A", ("CONFIRMED",)),
    ("independent", "A", LET_GO),
    ("framed", "B", ("INDICATIVE",)),
    ("framed", "A", LET_GO),
]


def test_the_demonstration_ends_with_the_expected_verdicts_all_computed(tmp_path):
    table = tmp_path / "table.json"
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "demo", "--json", str(table), "--folder", str(tmp_path / "run")],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    rows = json.loads(table.read_text())
    for row, (suspect, assurance_class, verdicts) in zip(rows, EXPECTED, strict=True):
        assert (row["suspect"], row["class"]) == (suspect, assurance_class)
        assert row["verdict"] in verdicts
    keys = {"suspect", "class", "asked", "matches", "log2_e", "paper_rule", "verdict"}
    assert all(row.keys() == keys for row in rows)
    confirmed, framed_by_choice, framed_by_beacon = rows[:3], rows[4], rows[5]
    assert all(float(row["log2_e"]) >= 72 for row in confirmed)  # 64 bits and the interface's 8, before the corrections
    # The paper's own rule is fooled by chosen labels; the same pictures with drawn labels match by chance.
    assert framed_by_choice["paper_rule"] is True
    assert framed_by_choice["log2_e"] is None
    assert framed_by_beacon["paper_rule"] is False
    # Computed exactly for an endpoint that guesses: above 16 in one run of twenty million.
    assert float(framed_by_beacon["log2_e"]) < 16
    assert "the slowest step was" in output
    assert "\x1b[" not in output, "plain lines where there is no terminal"
