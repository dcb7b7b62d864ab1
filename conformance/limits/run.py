#!/usr/bin/env python3
"""Every limit from every language: one below it, at it, one above it.

    run.py                   C, Python and Node.js
    run.py python            some of them
    run.py --only backlog    only checks with that in their name

The subjects are the drivers of ../matrix, told their limits; here is the peer, on raw sockets. What
is above a limit has to be refused with the right status or close code, and the text of the error
that the subject hears has to name the option, by its name in that language, and its value. One line
for each check, and a closing line `N passed, N failed, N skipped`.
"""
import argparse
import os
import sys
from pathlib import Path

import cases
from subject import LANGUAGES, Subject, Unavailable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "matrix"))
from drivers import Broken, PAYLOADS, WORK, checkout  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE",
                        help=f"of {', '.join(LANGUAGES)}")
    parser.add_argument("--only", default="", metavar="TEXT")
    args = parser.parse_args()
    if unknown := set(args.languages) - set(LANGUAGES):
        parser.error(f"no language {', '.join(sorted(unknown))}; there are {', '.join(LANGUAGES)}")
    return parser, args


def run(language, checks, counts):
    try:
        subject = Subject(language)
    except Broken as why:
        counts["failed"] += 1
        return print(f"FAIL  {language}: {why}", flush=True)
    except Unavailable as why:
        counts["skipped"] += len(checks)
        return print(f"SKIP  {language}: {why}", flush=True)
    for name, check in checks:
        try:
            subject.start()
            check(subject)
            subject.settle()
        except (AssertionError, EOFError, OSError, RuntimeError) as why:
            counts["failed"] += 1
            print(f"FAIL  {language}: {name}: {why or type(why).__name__}", flush=True)
            subject.kill()  # whatever it is in the middle of
        else:
            counts["passed"] += 1
            print(f"ok    {language}: {name}", flush=True)
    if (why := subject.finish()) is not None:
        counts["failed"] += 1
        print(f"FAIL  {language}: ends with 0 when its input does: {why}", flush=True)


def main():
    parser, args = arguments()
    os.environ["NODE_DEBUG"] = "wsabi"  # what is no event in Node.js
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    PAYLOADS.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with checkout.locked("matrix"):
        for language in args.languages or LANGUAGES:
            checks = [(name, check) for name, check in cases.all_checks()
                      if args.only in name]
            if not checks:
                parser.error("no check has that in its name; there are\n  " + "\n  ".join(
                    name for name, _ in cases.all_checks()))
            run(language, checks, counts)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 0 if counts["passed"] and not counts["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
