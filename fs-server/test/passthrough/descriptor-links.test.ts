/** Opening again what a descriptor refers to. */
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { files } from "../../../sys/src/index.ts";
import { DescriptorLinks, linkPath } from "../../src/passthrough/descriptor-links.ts";

let folder: string;
let links: DescriptorLinks;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "daxfault-links-"));
  const opened = DescriptorLinks.open();
  if (typeof opened === "number") throw new Error(`errno ${-opened}`);
  links = opened;
});
afterEach(() => {
  links.close();
  rmSync(folder, { recursive: true });
});

describe("the path of a descriptor", () => {
  it.each([0, 7, 9, 10, 99, 100, 101, 999, 1000, 123_456, 1_048_576, 2_147_483_647])("%i", (fd) => {
    const path = linkPath(fd);
    const end = path.indexOf(0);
    expect(Buffer.from(path.subarray(0, end)).toString()).toBe(`/proc/self/fd/${fd}`);
  });

  it("of a short number after a long one ends where it should", () => {
    linkPath(1_048_576);
    const path = linkPath(3);
    expect(Buffer.from(path.subarray(0, path.indexOf(0))).toString()).toBe("/proc/self/fd/3");
  });
});

describe("opening again", () => {
  it("finds the file that was opened, not the one that has its name now", () => {
    writeFileSync(join(folder, "a"), "first");
    const pin = files.openat(files.AT_FDCWD, files.pathBytes(join(folder, "a")), files.O_PATH);
    renameSync(join(folder, "a"), join(folder, "b"));
    writeFileSync(join(folder, "a"), "second");
    const fd = links.open(pin, files.O_RDONLY);
    expect(readFileSync(fd, "utf8")).toBe("first");
    files.close(fd);
    files.close(pin);
  });

  it("of a descriptor that is not open is ENOENT", () => {
    const fd = openSync(folder, "r");
    closeSync(fd);
    expect(links.open(fd, files.O_PATH)).toBe(-2);
  });
});
