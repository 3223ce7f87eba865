"""Kills the hosts of a data stream at random moments and starts others in their place: nothing is lost or repeated.

    python tests/reliability/kill_and_resume.py [--num_kills 20] [--seed 0]

Every host is a process of its own that makes its rows of the global batches of a mixture of two texts, span-corrupted
and packed, writes down the ids of their examples for every step, and its cursor every few steps. After each kill -9 the
number of hosts is another of 1, 2 and 4; they go on from the newest step of which all hosts wrote a cursor, and cut the
record of later steps. At the end the record of all steps, put together, is that of one process which was never stopped,
and each id of every epoch that is over is in it exactly once.

Last line: kill_and_resume ok=20 of 20 steps=... ids=... finished_epochs=...
"""

import argparse
import collections
import gzip
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from t5like.batch import EXAMPLE_IDS
from t5like.data.audit import Audited
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.encoded import Encoded
from t5like.data.example_ids import parse_id
from t5like.data.lanes import HostShare, merge_cursors
from t5like.data.pipeline import pretraining_batches
from t5like.data.sources import open_source
from t5like.objectives.span_corruption import SpanCorruption

TEXTS = ("many.jsonl", "few")
BATCH_SIZE, CURSOR_EVERY_STEPS, HOSTS = 16, 5, (1, 4, 2)
ENOUGH_SECONDS = 600


def write_texts(folder: pathlib.Path) -> None:
    """Writes two texts, one in many lines and one in few compressed files."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghij"), rng.integers(2, 8))) for _ in range(500)])
    lengths = np.maximum(rng.lognormal(3.5, 1.0, 3000), 1).astype(int)
    documents = [json.dumps({"text": " ".join(rng.choice(words, length))}) for length in lengths]
    (folder / "many.jsonl").write_text("\n".join(documents))
    (folder / "few").mkdir()
    for number in range(17):
        with gzip.open(folder / "few" / f"{number:02}.jsonl.gz", "wt") as file:
            file.write("\n".join(documents[number::150]))


def make_batches(folder: pathlib.Path, host: HostShare):  # type: ignore[no-untyped-def]
    """Returns a host's stream: two components, packed and span-corrupted."""
    vocabulary = ByteVocabulary()
    return pretraining_batches(
        [Encoded(open_source(str(folder / name)), vocabulary) for name in TEXTS],
        shares=(0.8, 0.2),
        objective=SpanCorruption(inputs_length=256, mean_span_length=20.0, joins_documents=False),
        vocabulary=vocabulary,
        batch_size=BATCH_SIZE,
        seed=0,
        packs_rows=True,
        host=host,
        groups_tokens=2**17,
    )


def run_host(folder: pathlib.Path, host: HostShare, attempt: int, num_steps: int) -> None:
    """Goes on from the newest cursor up to `num_steps`, writing ids of every step and cursors of some."""
    own = folder / f"attempt-{attempt}" / f"host-{host.host}"
    own.mkdir(parents=True)
    first, cursor = newest_cursor(folder, attempt)
    batches = make_batches(folder, host)
    if cursor is not None:
        batches.set_state(cursor)
    audited = Audited(batches, own / "audit.jsonl", first_step=first)
    for step in range(first, num_steps):
        next(audited)
        if (step + 1) % CURSOR_EVERY_STEPS == 0:
            temporary = own / "cursor.tmp"
            temporary.write_text(json.dumps(audited.get_state()))
            os.replace(temporary, own / f"cursor-{step + 1}.json")
        time.sleep(0.002)  # or the first attempt would be over before it is killed
    audited.close()


def newest_cursor(folder: pathlib.Path, before_attempt: int) -> tuple[int, dict | None]:
    """Returns the newest step that all hosts of an earlier attempt wrote their cursors of, and the cursor of it."""
    newest, cursor = 0, None
    for attempt in range(before_attempt):
        hosts = sorted((folder / f"attempt-{attempt}").glob("host-*"))
        num_hosts = int((folder / f"attempt-{attempt}.hosts").read_text())
        if len(hosts) < num_hosts:
            continue
        steps = [{int(p.stem.split("-")[1]) for p in host.glob("cursor-*.json")} for host in hosts]
        common = set.intersection(*steps)
        if common and max(common) > newest:
            newest = max(common)
            cursor = merge_cursors(
                [json.loads((host / f"cursor-{newest}.json").read_text()) for host in hosts]
            )
    return newest, cursor


def ids_by_step(folder: pathlib.Path, num_attempts: int) -> dict[int, list[list[int]]]:
    """Returns the ids of each step's rows, in order, by the last attempt that the run went on from."""
    steps: dict[int, list[list[int]]] = {}
    for attempt in range(num_attempts):
        first, _ = newest_cursor(folder, attempt)
        steps = {step: ids for step, ids in steps.items() if step < first}
        hosts = sorted(
            (folder / f"attempt-{attempt}").glob("host-*"), key=lambda path: int(path.name.split("-")[1])
        )
        parts = collections.defaultdict(list)
        num_hosts = int((folder / f"attempt-{attempt}.hosts").read_text())
        for host in hosts:
            audit = host / "audit.jsonl"
            for line in audit.read_text().splitlines(keepends=True) if audit.exists() else ():
                if line.endswith("\n"):
                    row = json.loads(line)
                    parts[row["step"]].append(row["example_ids"])
        steps |= {
            step: list(itertools.chain(*of_hosts))
            for step, of_hosts in parts.items()
            if len(of_hosts) == num_hosts
        }
    return steps


def start_hosts(folder: pathlib.Path, num_hosts: int, attempt: int, num_steps: int) -> list[subprocess.Popen]:
    """Returns the processes of all hosts of an attempt."""
    (folder / f"attempt-{attempt}.hosts").write_text(str(num_hosts))
    return [
        subprocess.Popen(
            [
                *(sys.executable, __file__, "--folder", str(folder), "--num_steps", str(num_steps)),
                *("--host", str(host), str(num_hosts), str(attempt)),
            ]
        )
        for host in range(num_hosts)
    ]


def check(folder: pathlib.Path, num_attempts: int, num_steps: int) -> tuple[int, int]:
    """Returns how many ids and finished epochs there are, having found them right.

    Raises:
      SystemExit: something was lost, repeated or reordered.
    """
    straight = make_batches(folder, HostShare(0, 1))
    seen = ids_by_step(folder, num_attempts)
    counts: collections.Counter[int] = collections.Counter()
    for step in range(num_steps):
        ids = [[int(i) for i in row if i >= 0] for row in next(straight)[EXAMPLE_IDS]]
        if seen.get(step) != ids:
            raise SystemExit(f"step {step} of the killed run is not that of the straight one")
        counts.update(itertools.chain(*ids))
    lanes = straight.get_state()["lanes"]
    straight.close()
    by_group = collections.defaultdict(set)
    for example in counts:
        component, epoch, group, row = parse_id(example)
        by_group[component, epoch, group].add(row)
    if max(counts.values()) > 1:
        raise SystemExit("an id came twice")
    # Over is what came before the windows that lanes are packing: the places in a cursor are where these begin.
    sizes = [open_source(str(folder / name)).num_blocks for name in TEXTS]
    over = [
        min((of_lane["places"][c][0] * len(lanes) + int(lane)) // size for lane, of_lane in lanes.items())
        for c, size in enumerate(sizes)
    ]
    finished = {(c, e) for c, e, _ in by_group if e < over[c]}
    for (component, epoch, group), rows in by_group.items():
        if (component, epoch) in finished and rows != set(range(len(rows))):
            raise SystemExit(f"group {group} of epoch {epoch} of component {component} has gaps")
    return len(counts), len(finished)


def main() -> None:
    """Kills and restarts, then compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_kills", type=int, default=20)
    parser.add_argument("--num_steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--host", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host is not None:
        host, num_hosts, attempt = options.host
        return run_host(options.folder, HostShare(host, num_hosts), attempt, options.num_steps)
    rng = random.Random(options.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kill_and_resume."))
    write_texts(folder)
    num_killed = attempt = 0
    deadline = time.time() + ENOUGH_SECONDS
    while time.time() < deadline:
        num_hosts = HOSTS[attempt % 3] if attempt < 3 else rng.choice(HOSTS)
        processes = start_hosts(folder, num_hosts, attempt, options.num_steps)
        attempt += 1
        if num_killed < options.num_kills:
            audits = [folder / f"attempt-{attempt - 1}/host-{host}/audit.jsonl" for host in range(num_hosts)]
            while not all(map(pathlib.Path.exists, audits)):
                if any(process.poll() is not None for process in processes):
                    raise SystemExit("the run was over before it was killed often enough; raise --num_steps")
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.6))
            for process in processes:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
            num_killed += 1
            for process in processes:
                process.wait()
            continue
        if any(process.wait() for process in processes):
            raise SystemExit("a host ended with an error")
        break
    num_ids, num_epochs = check(folder, attempt, options.num_steps)
    shutil.rmtree(folder)
    print(
        f"kill_and_resume ok={num_killed} of {options.num_kills} steps={options.num_steps} ids={num_ids} "
        f"finished_epochs={num_epochs}"
    )


if __name__ == "__main__":
    main()
