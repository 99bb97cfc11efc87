/** The memory of a guest's NVDIMM: the case's file behind metadata of the VMM's. On real memory, without a VM. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { isPageThere, viewOf } from "../../../../sys/src/index.ts";
import { pageState } from "../../../../vmm/src/index.ts";
import { FILE_OFFSET } from "../../../src/engines/linux/ext4-image.ts";
import { Nvdimm } from "../../../src/engines/linux/nvdimm.ts";
import { FenceWatch, GuardWatch } from "../../../src/engines/linux/window.ts";
import { caseFolder } from "../../support/folders.ts";

const PAGE = 4096;
const FILE_BYTES = 4 * PAGE;
/** Of s_magic in the image: "The superblock", Documentation/filesystems/ext4/super.rst. */
const MAGIC_OFFSET = 1024 + 0x38;
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function inserted() {
  const path = join(caseFolder(), "file");
  writeFileSync(path, Buffer.alloc(FILE_BYTES, "A"));
  const fd = openSync(path, "r+");
  const dimm = new Nvdimm();
  dimm.insert(fd, "file", FILE_BYTES);
  closing.push(() => {
    dimm.memory.unwatch();
    dimm.memory.close();
    closeSync(fd);
  });
  const hvaOf = (fileOffset: number): bigint => dimm.memory.hva + BigInt(FILE_OFFSET + fileOffset);
  const byteAt = (offset: number): number | undefined => viewOf(dimm.memory.hva + BigInt(offset), 1)[0];
  const isThere = (fileOffset: number): boolean => isPageThere(hvaOf(fileOffset), "read");
  return { path, fd, dimm, hvaOf, byteAt, isThere };
}

describe("an NVDIMM", () => {
  it("has the file behind the metadata, and shares it", () => {
    const { path, hvaOf, byteAt } = inserted();
    expect(byteAt(MAGIC_OFFSET)).toBe(0x53);
    expect(byteAt(FILE_OFFSET)).toBe("A".charCodeAt(0));
    viewOf(hvaOf(PAGE), 1)[0] = "B".charCodeAt(0);
    expect(readFileSync(path)[PAGE]).toBe("B".charCodeAt(0));
  });

  it("loses the file's pages behind a truncation, and nothing else", () => {
    const { fd, dimm, isThere } = inserted();
    ftruncateSync(fd, PAGE);
    expect([isThere(0), isThere(PAGE)]).toEqual([true, false]);
    expect(isPageThere(dimm.memory.hva, "write")).toBe(true);
    expect(isThere(FILE_BYTES)).toBe(true);
  });

  it("has zeros in place of the file when that is lost for good, and its metadata still", () => {
    const { fd, dimm, isThere, byteAt } = inserted();
    ftruncateSync(fd, 0);
    dimm.loseFile();
    expect(isThere(PAGE)).toBe(true);
    expect([byteAt(MAGIC_OFFSET), byteAt(FILE_OFFSET)]).toEqual([0x53, 0]);
  });

  it("follows no truncation of a file that has been removed, and takes the next one", () => {
    const { path, fd, dimm, byteAt } = inserted();
    dimm.remove();
    const events: string[] = [];
    ftruncateSync(fd, PAGE);
    dimm.memory.watchBy(new FenceWatch(path, ({ kind }) => events.push(kind)));
    expect([events, byteAt(FILE_OFFSET)]).toEqual([[], 0]);
    dimm.memory.unwatch();
    ftruncateSync(fd, FILE_BYTES);
    dimm.insert(fd, "other", FILE_BYTES);
    expect(byteAt(FILE_OFFSET)).toBe("A".charCodeAt(0));
  });

  it("is fenced and guarded by offsets of the file", () => {
    const { path, fd, dimm, hvaOf, isThere } = inserted();
    ftruncateSync(fd, PAGE);
    dimm.memory.watchBy(new FenceWatch(path, () => {}));
    ftruncateSync(fd, FILE_BYTES);
    expect([isThere(0), isThere(PAGE)]).toEqual([true, false]);
    dimm.memory.unwatch();
    dimm.insert(fd, "file", FILE_BYTES);
    const guard = new GuardWatch(dimm.memory, fd, () => {});
    dimm.memory.watchBy(guard);
    guard.recall({ fromBytes: BigInt(PAGE), by: "truncate" });
    expect([isThere(0), isThere(PAGE)]).toEqual([true, false]);
    expect(dimm.memory.states.of(hvaOf(PAGE))).toBe(pageState.recalled);
    expect(dimm.memory.states.of(hvaOf(FILE_BYTES))).toBe(pageState.open);
  });
});
