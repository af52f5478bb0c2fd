#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Say in an IORT that root complexes are coherent whatever a device asks for.

iort-canwbs.py CONSOLE OUT reads the table from what the guest's test-iort has printed,
sets CANWBS in the memory access flags of each root complex, and makes it a newer
revision, which a kernel with CONFIG_ACPI_TABLE_UPGRADE takes instead of the firmware's.
"""

import re
import struct
import sys

ROOT_COMPLEX = 2
CANWBS = 1 << 2


def main():
    console, out = sys.argv[1:]
    with open(console, errors='backslashreplace') as f:
        table = bytearray.fromhex(''.join(re.findall(r'ioptes: iort ([0-9a-f ]+)', f.read())))
    if table[:4] != b'IORT' or struct.unpack_from('<I', table, 4)[0] != len(table):
        sys.exit(f'error: no whole IORT in {console}')
    if sum(table) & 0xff:
        sys.exit(f'error: the IORT in {console} has a wrong checksum')
    count, at = struct.unpack_from('<II', table, 36)
    complexes = 0
    for _ in range(count):
        kind, length = struct.unpack_from('<BH', table, at)
        if kind == ROOT_COMPLEX:
            # behind the node's header: cache coherency, hints, reserved, flags
            table[at + 16 + 7] |= CANWBS
            complexes += 1
        at += length
    if not complexes:
        sys.exit('error: no root complex in the IORT')
    struct.pack_into('<I', table, 24, struct.unpack_from('<I', table, 24)[0] + 1)
    table[9] = 0
    table[9] = -sum(table) & 0xff
    with open(out, 'wb') as f:
        f.write(table)


if __name__ == '__main__':
    main()
