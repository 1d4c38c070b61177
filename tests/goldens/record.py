"""Record the goldens anew from a running server, which is to be Apache Cassandra 5.

    python tests/goldens/record.py --host 127.0.0.1 --port 9042 [name ...]

Without names it records all scripts. ``--print`` writes to standard output instead, also for scripts that lie
elsewhere, so that two servers' answers to one script can be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import script  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description="Record golden scripts from a server.")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=9042)
    options.add_argument("--print", action="store_true", dest="to_stdout")
    options.add_argument("names", nargs="*", help="names of scripts, or paths")
    given = options.parse_args()
    paths = [path if (path := Path(name)).is_file() else HERE / f"{path.stem}.cql" for name in given.names]
    for path in paths or sorted(HERE.glob("*.cql")):
        text = script.rendered(script.run(path, given.host, given.port))
        if given.to_stdout:
            sys.stdout.write(text)
        else:
            path.with_suffix(".out").write_text(text)
            print(path.stem, "troubled" if "driver error" in text or "no answer" in text else "recorded")


if __name__ == "__main__":
    main()
