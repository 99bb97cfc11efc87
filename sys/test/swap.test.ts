import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  fillWithCopies,
  MAP_PRIVATE,
  makeSwapImage,
  mmap,
  munmap,
  PAGE_SIZE,
  PageOutError,
  PROT_READ,
  PROT_WRITE,
  pageOut,
  residentPages,
  swapRefusal,
  viewOf,
} from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-swap-"));
afterAll(() => rmSync(folder, { recursive: true }));

const HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

describe("swapRefusal", () => {
  it.each([
    ["a kernel without swap", null, "N", /CONFIG_SWAP/],
    ["no area", HEAD, "N", /no swap is on/],
    ["zram", `${HEAD}/dev/zram0  partition\t65532\t0\t-2\n`, null, /zram0 is memory/],
    [
      "zram beside a disk",
      `${HEAD}/dev/sda2 partition\t9\t0\t-2\n/dev/zram0 partition\t9\t0\t5\n`,
      "N",
      /zram0/,
    ],
    ["zswap before a disk", `${HEAD}/dev/sda2 partition\t9\t0\t-2\n`, "Y", /zswap/],
  ] as const)("%s: coming back would not be I/O", (_what, swaps, zswap, reason) => {
    expect(swapRefusal(swaps, zswap)).toMatch(reason);
  });

  it("a file, a disk: it would", () => {
    expect(
      swapRefusal(`${HEAD}/run/swap file\t65532\t0\t-2\n/dev/sda2 partition\t9\t0\t-3\n`, "N"),
    ).toBeNull();
    expect(swapRefusal(`${HEAD}/run/swap file\t65532\t0\t-2\n`, null)).toBeNull();
  });
});

describe("makeSwapImage", () => {
  it("has the header of mkswap(8), takes no room, and never takes a file's place", () => {
    const path = join(folder, "swap");
    makeSwapImage(path, 16 * PAGE_SIZE);
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(16 * PAGE_SIZE);
    // union swap_header: version at 1024, last_page, nr_badpages; the magic ends the page.
    expect([1024, 1028, 1032].map((at) => bytes.readUInt32LE(at))).toEqual([1, 15, 0]);
    expect(bytes.toString("latin1", PAGE_SIZE - 10, PAGE_SIZE)).toBe("SWAPSPACE2");
    expect(statSync(path).blocks * 512).toBeLessThan(3 * PAGE_SIZE);
    expect(() => makeSwapImage(path, PAGE_SIZE)).toThrow("EEXIST");
  });
});

describe("private pages", () => {
  const bytes = 8 * PAGE_SIZE;
  const path = join(folder, "file");
  writeFileSync(path, Buffer.alloc(bytes, 7));

  /** Maps the file and fills the mapping with copies. */
  async function withCopies(work: (address: bigint) => Promise<void>): Promise<void> {
    const fd = openSync(path, "r+");
    const address = mmap({ lengthBytes: bytes, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE, fd });
    try {
      fillWithCopies(address, bytes, fd);
      await work(address);
    } finally {
      munmap(address, bytes);
      closeSync(fd);
    }
  }

  it("are in memory until they are paged out, and hold what the file holds", () =>
    withCopies(async (address) => {
      expect(residentPages(address, bytes)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      expect([...viewOf(address, bytes)].every((byte) => byte === 7)).toBe(true);
    }));

  const refusal = swapRefusal();
  it.skipIf(refusal === null || !refusal.startsWith("no swap is on"))(
    "without swap they stay, and that is said",
    () =>
      withCopies(async (address) => {
        const refused = expect(pageOut(address, bytes)).rejects;
        await refused.toThrow(
          new PageOutError("8 of 8 pages are still in memory after 200 rounds of MADV_PAGEOUT"),
        );
      }),
  );

  it.skipIf(refusal !== null)(
    `are all out afterwards${refusal === null ? "" : ` (skipped: ${refusal})`}`,
    () =>
      withCopies(async (address) => {
        await pageOut(address, bytes);
        expect(residentPages(address, bytes)).toEqual([]);
        expect(viewOf(address, bytes)[PAGE_SIZE]).toBe(7);
      }),
  );
});
