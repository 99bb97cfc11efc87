/** What the guest's kernel says of its set-up, on the console of a boot (`say_kernel_facts()`, vmm/guest/linux/init.c). Pure. */

function firstIn(lines: readonly string[], pattern: RegExp): string | null {
  for (const line of lines) {
    const found = pattern.exec(line)?.[1];
    if (found !== undefined) return found;
  }
  return null;
}

/** Has the kernel a handler for page-ready? null: it was not said. */
export function asyncPageFaultsIn(lines: readonly string[]): boolean | null {
  const word = firstIn(lines, /^daxfault-guest: async page faults (on|off)$/);
  return word === null ? null : word === "on";
}

/** `7.41` of `fuse: init (API version 7.41)`; null: it was not said. */
export function fuseVersionIn(lines: readonly string[]): string | null {
  return firstIn(lines, /fuse: init \(API version ([0-9]+\.[0-9]+)\)/);
}

/** The address of `Cache len: 0x4000000 @ 0xf8000000`; null: there is no DAX window. */
export function windowBaseIn(lines: readonly string[]): bigint | null {
  const text = firstIn(lines, /Cache len: 0x[0-9a-f]+ @ (0x[0-9a-f]+)/);
  return text === null ? null : BigInt(text);
}

/** Bytes of `Cache len: 0x4000000 @ 0xf8000000`; null: there is no DAX window. */
export function windowBytesIn(lines: readonly string[]): number | null {
  const text = firstIn(lines, /Cache len: (0x[0-9a-f]+) @ 0x[0-9a-f]+/);
  return text === null ? null : Number(text);
}
