#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Turn what one KUnit boot left behind into result lines; called by kunit.sh.

Reads kunit.py's JSON (its leaves are the tests), the console (io-pgtable's
boot-time selftests), the list of demanded suites and the base's counts.
"""

import argparse
import json
import os
import re
import sys

SELFTESTS = [
    # name, what its last line on the console looks like
    ('lpae-selftest', re.compile(r'arm-lpae io-pgtable: selftest: completed with (\d+) PASS (\d+) FAIL')),
    ('v7s-selftest', re.compile(r'arm-v7s io-pgtable: self test ok()')),
]


def leaves(group, path=()):
    """(suite, full name, status) of every leaf of kunit.py's JSON."""
    for case in group.get('test_cases', []):
        yield (path[0] if path else case['name'],
               '.'.join((*path, case['name'])), case['status'])
    for sub in group.get('sub_groups', []):
        yield from leaves(sub, (*path, sub['name']))


def lines(path):
    if os.path.exists(path):
        with open(path) as f:
            for line in f:
                line = line.split('#')[0].split()
                if line:
                    yield line


def record(path, name, variant, count):
    with open(path) as f:
        text = f.read()
    text = re.sub(rf'^{name} {variant} .*\n', '', text, flags=re.M)
    with open(path, 'w') as f:
        f.write(f'{text}{name} {variant} {count}\n')


def main():
    p = argparse.ArgumentParser()
    for o in ('variant', 'suite', 'json', 'console', 'tree', 'results', 'testing', 'parse'):
        p.add_argument('--' + o, required=True)
    p.add_argument('--record', action='store_true')
    a = p.parse_args()
    out = []

    def result(ok, name):
        out.append(('pass' if ok else 'fail', f'{a.variant}: {name}'))

    tests = []
    if os.path.exists(a.json):
        with open(a.json) as f:
            tests = list(leaves(json.load(f)))
    for _, name, status in tests:
        if status == 'SKIP':
            out.append(('skip', f'{a.variant}: {name}'))
        else:
            result(status == 'PASS', name)
    ran = [t for t in tests if t[2] != 'SKIP']

    base = os.path.join(a.testing, 'base-counts')
    counts = {(n, v): int(c) for n, v, c in lines(base)}
    demanded = []
    if a.suite:
        if not ran:
            result(False, f'no test ran for {a.suite}')
    else:
        demanded = [l[0] for l in lines(os.path.join(a.testing, 'suites', a.variant))
                    if len(l) < 2 or os.path.exists(os.path.join(a.tree, l[1]))]
        have = {suite for suite, _, _ in ran}
        for suite in demanded:
            if suite not in have:
                result(False, f'suite {suite} is missing')
        with open(a.console, errors='backslashreplace') as f:
            console = f.read()
        for name, line in SELFTESTS:
            found = line.findall(console)
            if not found:
                result(False, f'{name} did not come to its end')
                continue
            passed, failed = found[-1] if isinstance(found[-1], tuple) else ('1', '0')
            passed, failed = int(passed), int(failed)
            if a.record:
                record(base, name, a.variant, passed)
                counts[name, a.variant] = passed
            want = counts.get((name, a.variant), counts.get((name, a.variant.split('-')[0])))
            for i in range(passed):
                result(True, f'{name} {i + 1}')
            for i in range(failed):
                result(False, f'{name}, failure {i + 1}')
            if passed != want or failed:
                result(False, f'{name}: {passed} passed and {failed} failed, '
                              f'on the base {want} pass')
    # Where the tree has no suite for this variant yet, kunit.py finds no KTAP.
    if ran or demanded:
        result(a.parse == 'pass', 'kunit.py finds the results whole and green')
    if not any(r == 'pass' for r, _ in out):
        result(False, 'no test ran')

    with open(a.results, 'a') as f:
        for r, name in out:
            f.write(f'{r} {name}\n')
    sys.exit(1 if any(r == 'fail' for r, _ in out) else 0)


if __name__ == '__main__':
    main()
