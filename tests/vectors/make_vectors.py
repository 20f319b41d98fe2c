"""Writes `protocol/vectors/` and `frozen/`: `python -m tests.vectors.make_vectors`.

Every byte comes from fixed seeds. A file that exists is the contract: one that would come out differently is
left alone and the run fails, so vectors are added and never edited.
"""

import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from tests.vectors import (
    cases_binds,
    cases_content,
    cases_contests,
    cases_daemon,
    cases_datagrams,
    cases_duels,
    cases_forks,
    cases_govern,
    cases_join,
    cases_keeping,
    cases_lapses,
    cases_members,
    cases_operations,
    cases_probes,
    cases_readings,
    cases_records,
    cases_recovery,
    cases_rollout,
    cases_roster,
    cases_signalling,
    cases_state,
    cases_streams,
    cases_terms,
    cases_tokens,
    frozen_messages,
)
from tests.vectors.form import Vector, write
from tests.vectors.meaning import meaning_of

FOLDER = Path(__file__).parents[2] / "protocol" / "vectors"
FROZEN = Path(__file__).parent / "frozen"
VERSIONS = ("v1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7")  # each has what it was the first to say
NEVER_EDIT = "never edit: what devices of this version say"
MODULES = (
    cases_records,
    cases_content,
    cases_members,
    cases_datagrams,
    cases_streams,
    cases_tokens,
    cases_state,
    cases_daemon,
    cases_join,
    cases_operations,
    cases_recovery,
    cases_forks,
    cases_govern,
    cases_roster,
    cases_lapses,
    cases_duels,
    cases_contests,
    cases_readings,
    cases_terms,
    cases_keeping,
    cases_rollout,
    cases_signalling,
    cases_probes,
    cases_binds,
)


def all_cases() -> Iterator[Vector]:
    """Give every vector of every layer."""
    for module in MODULES:
        yield from module.all_cases()


def frozen_texts(version: str) -> dict[str, str]:
    """Give the frozen messages of a version, and their sums."""
    texts = {}
    for name, data in frozen_messages.all_messages(version):
        there = FROZEN / version / f"{name}.json"
        if there.exists() and json.loads(there.read_text())["hex"] == data.hex():
            texts[f"{name}.json"] = there.read_text()  # it may have more meaning by now: `still_means` compares
            continue
        meaning = meaning_of(frozen_messages.read_frozen(name.partition("/")[0], data))
        value = {"comment": NEVER_EDIT, "hex": data.hex(), "meaning": meaning}
        texts[f"{name}.json"] = json.dumps(value, indent=1) + "\n"
    sums = [f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(texts.items())]
    return {**texts, "SHA256SUMS": "".join(sums)}


def write_new(folder: Path, texts: dict[str, str]) -> list[str]:
    """Write the files that are not there yet. Give the names of those that are there and differ."""
    differing = []
    for name, text in texts.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            differing.append(name)
    return differing


def main() -> int:
    """Write what is missing; fail when something would have to change."""
    texts = {f"{vector.name}.txt": write(vector) for vector in all_cases()}
    differing = write_new(FOLDER, texts)
    for version in VERSIONS:
        differing += write_new(FROZEN / version, frozen_texts(version))
    for name in differing:
        print(f"{name} is there and differs: files are added, never edited", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
