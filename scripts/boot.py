#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boot one kernel and judge its console.

Runs QEMU (or user-mode Linux), writes the console to a log file as it comes,
ends it at a timeout, and then fails when

  - the guest did not end by itself in time, or
  - with --end, it did not print "ioptes: end 0" (see tools/testing/guest/init),
  - the console holds a splat that no test announced.

A splat is one of SPLATS below: the kernel's own reports of something gone
wrong, and the SMMU driver's of a DMA that faulted.  A test that provokes one
on purpose announces it by printing

    expect-splat: begin REGEX
    ... the splat ...
    expect-splat: end

from kernel or user space; other text may precede it on the line, as pr_info()
or kunit_info() put there.  Between the two, splats are accepted of which REGEX
matches the title (the line with "WARNING:" or the like) or, for a WARN(), the
text that goes with it: between "[ cut here ]" and the title on arm64, behind
the title on user-mode Linux.  Any other is not, and an announced splat that
never came is a failure too, so that an announcement cannot outlive its test.

KCSAN watches the whole kernel, and the base kernel has races of its own, in locks, the
scheduler and timers, also where a function of ours has called it.  --own FILE is a list
of functions, and --library FILE one of those that work on what their callers give them.
With these a data race counts when a function of ours makes one of the accesses, by itself
or through the library.  The others are listed.

`boot.py --check LOG` judges a console log of an earlier boot.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys

SPLATS = re.compile('|'.join([
    r'\bWARNING:', r'\bBUG:', r'\bBUG at ', r'\bKASAN\b(?=: )', r'\bKCSAN: ',
    r'rcu.*(detected.*stall|self-detected stall)', r'rcu: INFO:',
    r'possible circular', r'INFO: (possible|trying|suspicious|inconsistent|task|HARDIRQ|SOFTIRQ)',
    r'inconsistent lock state', r'suspicious RCU usage', r'Invalid wait context',
    r'\bUBSAN: ', r'kmemleak: \d+ new', r'\bOops\b', r'Internal error: ',
    r'Unable to handle', r'blocked for more than', r'soft lockup', r'hard LOCKUP',
    r'Kernel panic', r'Bad page (state|map)', r'bad: scheduling', r'ODEBUG:',
    r'refcount_t: ', r'list_(add|del) corruption', r'general protection fault',
    r'Call Trace:', r'Call trace:', r'printk messages dropped',
    # the SMMU drivers: a fault, or a queue in trouble
    r'arm-smmu.*: event 0x[0-9a-f]+ received', r'arm-smmu.*[Uu]nhandled context fault',
    r'arm-smmu.*(CMDQ error|CMDQ timeout|CMD_SYNC timeout|[Uu]nexpected global)',
    r'arm-smmu.*(EVTQ overflow|Service Failure|MSI write aborted)',
]))
CUT = re.compile(r'-\[ cut here \]-')
# "Call trace" alone says nothing new after the title of an accepted splat.
TRACE = re.compile(r'Call [Tt]race:')
# the kernel's own announcements that it is going to test something
HARMLESS = re.compile(r'Locking API|kasan: KernelAddressSanitizer initialized|'
                      r'kcsan: (enabled|strict|selftest)|Kernel command line:')
BEGIN = re.compile(r'expect-splat: begin (.*\S)')
END = re.compile(r'expect-splat: end\b')
RACE = re.compile(r'BUG: KCSAN: (?:data-race|assert: race) in (.*\S)')
FRAME = re.compile(r'([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+')
RULER = re.compile(r'={66}$')
# what a whole report has: two accesses with a stack each, and its last lines
ACCESS = re.compile(r' to 0x[0-9a-f]+ of \d+ bytes by ')
UNKNOWN = 'race at unknown origin'
REPORTER = 'Reported by Kernel Concurrency Sanitizer on'


def is_ours(stack, own, library):
    """Whether a function of ours makes the access with this stack, innermost first."""
    who = next((f for f in stack if f not in library), None)
    return who is None or who in own


def foreign_races(lines, own, library):
    """{line number: title} of the data races that do not count.

    A report is one of them only if it is whole, with the stacks of both sides; or
    of one, where the value changed while KCSAN watched it and nobody was seen to
    write.
    """
    found, n = {}, 0
    while n < len(lines):
        m, begin = RACE.search(lines[n]), n
        n += 1
        if not m:
            continue
        stacks, whole, unknown = [], False, False
        while n < len(lines) and not RULER.search(lines[n]) and not RACE.search(lines[n]):
            if ACCESS.search(lines[n]):
                stacks.append([])
            elif stacks and not whole:
                stacks[-1] += FRAME.findall(lines[n])
            whole |= REPORTER in lines[n]
            unknown |= UNKNOWN in lines[n]
            n += 1
        if n == len(lines) or not RULER.search(lines[n]):
            continue
        if whole and len(stacks) == (1 if unknown else 2) and not any(
                is_ours(stack, own, library) for stack in stacks):
            found[begin + 1] = m[1]
    return found


def splats(lines, foreign=()):
    """(line number, text, what is wrong with it) of everything unexpected."""
    bad, expected, opened, seen = [], None, 0, False
    text = False        # REGEX matched since the last "cut here"
    accepted = False    # the last title was an announced one
    for n, line in enumerate(lines, 1):
        m = BEGIN.search(line)
        if m or END.search(line):
            if m and expected:
                bad.append((n, line, 'announced inside another announcement'))
            if not m and not expected:
                bad.append((n, line, 'end of an announcement without a begin'))
            if not m and expected and not seen:
                bad.append((opened, expected.pattern, 'announced, but never came'))
            expected, opened, seen, text, accepted = None, n, False, False, False
            if m:
                try:
                    expected = re.compile(m[1])
                except re.error as e:
                    bad.append((n, line, f'bad regular expression: {e}'))
            continue
        if CUT.search(line):
            text = accepted = False
        if expected and expected.search(line):
            text = True
        if not SPLATS.search(line) or HARMLESS.search(line) or n in foreign:
            continue
        if TRACE.search(line):
            if not accepted:
                bad.append((n, line, 'unexpected'))
        # on user-mode Linux the text of a WARN() is on the next line
        elif text or expected and n < len(lines) and expected.search(lines[n]):
            seen = accepted = True
            text = False        # one announced text excuses one title
        else:
            accepted = False
            bad.append((n, line, 'unexpected'))
    if expected:
        bad.append((opened, expected.pattern, 'announced, and the console ended before its end'))
    return bad


def functions(path):
    with open(path) as f:
        names = set(f.read().split())
    if not names:
        die(f'{path} names no function')
    return names


def judge(path, own=None, library=None):
    with open(path, errors='backslashreplace') as f:
        lines = f.read().splitlines()
    foreign = {}
    if own:
        foreign = foreign_races(lines, functions(own), functions(library))
    for n, title in foreign.items():
        print(f'{path}:{n}: a race of the base kernel, not counted: {title}')
    bad = splats(lines, foreign)
    for n, line, why in bad[:10]:
        print(f'{path}:{n}: {why}: {line.strip()}')
    if len(bad) > 10:
        print(f'... and {len(bad) - 10} more')
    return not bad


def die(msg):
    print(f'error: {msg}', file=sys.stderr)
    sys.exit(2)


def check_qemu():
    try:
        v = subprocess.run(['qemu-system-aarch64', '--version'], text=True,
                           capture_output=True).stdout
    except FileNotFoundError:
        die("no qemu-system-aarch64: run 'make setup'")
    m = re.search(r'version (\d+)', v)
    if not m or int(m[1]) < 10:
        die('QEMU 10 or newer is needed (its SMMUv3 emulates both stages), this is '
            f"{v.splitlines()[0] if v else 'unknown'}: run 'make setup'")


def command(a):
    """The command line of the guest."""
    if a.variant.startswith('uml'):
        # as kunit.py does; the console is stdin and stdout
        return [a.kernel, 'mem=512M', 'console=tty', *a.append]
    check_qemu()
    cmd = ['qemu-system-aarch64', '-M', 'virt,iommu=smmuv3,gic-version=3',
           '-cpu', 'max,pauth-impdef=on', '-smp', str(a.smp), '-m', a.mem,
           '-nodefaults', '-no-reboot', '-nographic', '-serial', 'mon:stdio' if a.interactive
           else 'stdio', '-kernel', a.kernel]
    if a.initrd:
        cmd += ['-initrd', a.initrd]
    if a.disk:
        # JSON, so that no character of a file's name means anything
        host = 'host_device' if not os.path.isfile(a.disk) else 'file'
        cmd += ['-blockdev', json.dumps({
            'driver': 'raw', 'node-name': 'd0', 'read-only': True,
            'file': {'driver': host, 'filename': os.path.abspath(a.disk), 'read-only': True}}),
            '-device', 'nvme,drive=d0,serial=ioptes']
    if a.gdb:
        cmd += ['-gdb', 'tcp:localhost:1234', '-S']
    cmd += a.qemu
    return cmd + ['-append', ' '.join(['console=ttyAMA0', 'panic=-1', 'printk.devkmsg=on',
                                       *a.append])]


def stop(signum, frame):
    sys.exit(128 + signum)


def run(cmd, log, timeout):
    """Run cmd with its console in log; what went wrong, or None.

    The console is the file itself: UML drops what a full pipe does not take.
    """
    signal.signal(signal.SIGTERM, stop)     # so that the guest goes, too
    why = None
    with open(log, 'wb') as out:
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out,
                             stderr=subprocess.STDOUT, start_new_session=True)
        try:
            p.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            why = f'no end within {timeout} s'
        finally:
            # UML leaves helper processes behind when it dies
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            p.wait()
    with open(log, 'rb+') as out:
        data = out.read().replace(b'\r', b'')
        out.seek(0)
        out.write(data)
        out.truncate()
    return why


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--check', metavar='LOG', help='only judge this console log')
    p.add_argument('--own', metavar='FILE', help='count only data races of these functions')
    p.add_argument('--library', metavar='FILE', help='who works on what others give them')
    p.add_argument('--check-qemu', action='store_true', help="only look at QEMU's version")
    p.add_argument('--variant', default='arm64')
    p.add_argument('--kernel', help='Image, or the uml binary')
    p.add_argument('--initrd')
    p.add_argument('--disk', help='NVMe disk behind the SMMU, read-only')
    p.add_argument('--append', action='append', default=[], help='kernel parameters')
    p.add_argument('--qemu', action='append', default=[], help='QEMU arguments')
    p.add_argument('--mem', default='512M')
    p.add_argument('--smp', default=2, type=int)
    p.add_argument('--log')
    p.add_argument('--timeout', type=int, default=120)
    p.add_argument('--end', action='store_true', help='demand "ioptes: end 0"')
    p.add_argument('--interactive', action='store_true', help='console on this terminal')
    p.add_argument('--gdb', action='store_true', help='wait for gdb on port 1234')
    a = p.parse_args()

    if bool(a.own) != bool(a.library):
        p.error('--own and --library go together')
    if a.check:
        sys.exit(0 if judge(a.check, a.own, a.library) else 1)
    if a.check_qemu:
        check_qemu()
        return
    cmd = command(a)
    if a.interactive:
        os.execvp(cmd[0], cmd)
    why = run(cmd, a.log, a.timeout)
    ok = True
    if why:
        print(f'{a.log}: {why}')
        ok = False
    if not judge(a.log, a.own, a.library):
        ok = False
    if a.end:
        with open(a.log, errors='backslashreplace') as f:
            ends = re.findall(r'ioptes: end (\d+)', f.read())
        if ends != ['0']:
            print(f'{a.log}: ' + (f'the guest ended with {ends[-1]}' if ends
                                  else 'the guest did not come to its end'))
            ok = False
    sys.exit(0 if ok else 1)


if __name__ == '__main__':
    main()
