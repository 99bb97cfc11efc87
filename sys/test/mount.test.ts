import { describe, expect, it } from "vitest";
import { fileSystemOf, mountOf, mounts, parseMountLine } from "../src/index.ts";

describe("parseMountLine", () => {
  it("reads a line with optional fields", () => {
    const line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
    expect(parseMountLine(line)).toEqual({
      mountpoint: "/mnt2",
      type: "ext3",
      source: "/dev/root",
      device: "98:0",
    });
  });

  it("decodes octal escapes in paths", () => {
    const line = "36 35 0:50 / /tmp/with\\040blank\\134 rw - fuse my\\040source rw";
    expect(parseMountLine(line)).toEqual({
      mountpoint: "/tmp/with blank\\",
      type: "fuse",
      source: "my source",
      device: "0:50",
    });
  });

  it("gives null for what is no such line", () => {
    expect(parseMountLine("")).toBeNull();
    expect(parseMountLine("36 35 98:0 /mnt1 /mnt2 rw")).toBeNull();
  });
});

describe("mountOf", () => {
  it("finds the mount with the longest prefix, by whole path components", () => {
    expect(mountOf("/proc/self/stat")?.mountpoint).toBe("/proc");
    expect(mountOf("/processes")?.mountpoint).toBe("/");
  });

  it("knows at least the root", () => {
    expect(mounts().some(({ mountpoint }) => mountpoint === "/")).toBe(true);
  });
});

describe("fileSystemOf", () => {
  it("is the mount table's word, where it has the path", () => {
    expect(fileSystemOf("/proc/self/stat")).toBe("proc");
  });
});
