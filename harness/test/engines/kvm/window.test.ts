/** The memory behind a case's window, without a VM: what a guest would find in it. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Scenario } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { viewOf } from "../../../../sys/src/index.ts";
import { planCase, type VmPlan } from "../../../src/engines/kvm/plan.ts";
import { openWindow } from "../../../src/engines/kvm/window.ts";

const FILE_BYTES = 4 * 2 ** 20;
let folder: string;
let fd: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "daxfault-window-"));
  fd = openSync(join(folder, "file"), "wx+");
  ftruncateSync(fd, FILE_BYTES);
  for (const [at, text] of [
    [0x1000, "first"],
    [0x201000, "second"],
  ] as const)
    writeSync(fd, text, at);
});

afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

function plan(changes: Partial<Scenario> = {}): VmPlan {
  return planCase(scenarioWith(changes), proposalOf("efault-exit"), {
    filePath: join(folder, "file"),
    sourceDirectory: folder,
    leaseSocket: null,
    lifeMs: 1,
    slowness: 1,
    ioPatienceMs: 1,
    latestEndMs: 1,
  });
}

const textAt = (hva: bigint, length: number): string => Buffer.from(viewOf(hva, length)).toString();
/** Does the address range show the file? */
const showsFile = (hva: bigint): boolean =>
  readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .some((line) => line.startsWith(hva.toString(16)) && line.includes(folder));

describe("a DAX window", () => {
  const twice = {
    window: [
      { fileOffset: 0x200000n, at: 0n, length: 0x200000n },
      { fileOffset: 0n, at: 0x200000n, length: 0x200000n },
    ],
  };

  it("shows what SETUPMAPPING has put in it, where it was asked for, shared with the file", () => {
    const window = openWindow(plan(twice), null);
    expect(window.bytes).toBe(FILE_BYTES);
    expect(window.mappings).toEqual([
      { hva: window.hva, fileOffset: 0x200000n, lengthBytes: 0x200000n },
      { hva: window.hva + 0x200000n, fileOffset: 0n, lengthBytes: 0x200000n },
    ]);
    expect(textAt(window.hva + 0x1000n, 6)).toBe("second");
    expect(textAt(window.hva + 0x201000n, 5)).toBe("first");
    viewOf(window.hva + 0x201000n, 5).set(Buffer.from("FIRST"));
    expect(readFileSync(join(folder, "file")).toString("latin1", 0x1000, 0x1005)).toBe("FIRST");
    window.close();
  });

  it("keeps nothing mapped and nothing open after DESTROY", () => {
    const window = openWindow(plan(twice), null);
    expect(showsFile(window.hva)).toBe(true);
    window.close();
    expect(showsFile(window.hva)).toBe(false);
  });

  it("maps the descriptor that a guard has armed", () => {
    const copy = openSync(join(folder, "copy"), "wx+");
    ftruncateSync(copy, FILE_BYTES);
    writeSync(copy, "armed", 0x1000);
    const window = openWindow(plan(), copy);
    expect(textAt(window.hva + 0x1000n, 5)).toBe("armed");
    window.close();
    closeSync(copy);
  });

  it("says which request the file server refused, and why", () => {
    const refused = plan({
      window: [
        { fileOffset: 0n, at: 0n, length: 0x200000n },
        { fileOffset: 0n, at: 0x100000n, length: 0x200000n },
      ],
    });
    expect(() => openWindow(refused, null)).toThrow("SETUPMAPPING: EEXIST");
    expect(() => openWindow({ ...plan(), filePath: join(folder, "gone") }, null)).toThrow("LOOKUP: ENOENT");
  });
});

describe("an NVDIMM", () => {
  it("shows the whole file", () => {
    const window = openWindow(plan({ layout: "nvdimm", window: [] }), null);
    expect(textAt(window.hva + 0x1000n, 5)).toBe("first");
    expect(textAt(window.hva + 0x201000n, 6)).toBe("second");
    window.close();
  });
});
