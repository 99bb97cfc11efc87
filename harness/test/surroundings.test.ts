/** Which errors are the user's surroundings, and what their messages say. */
import { describe, expect, it } from "vitest";
import {
  descriptorsProblem,
  folderProblem,
  lackIn,
  problemText,
  procProblem,
  SurroundingsError,
  surroundingsText,
} from "../src/surroundings.ts";

const systemError = (fields: Partial<NodeJS.ErrnoException> & { readonly message: string }): Error =>
  Object.assign(new Error(fields.message), fields);

describe("an error of the system", () => {
  it.each([
    ["EMFILE: too many open files, open '/x'", "raise the limit: ulimit -n"],
    ["ENFILE: file table overflow, open '/x'", "fs.file-max"],
    ["ENOSPC: no space left on device, mkdir '/x/case-0'", "(TMPDIR)"],
    ["EDQUOT: disk quota exceeded, write", "(TMPDIR)"],
    ["EROFS: read-only file system, open '/x'", "name another place"],
    ["EFBIG: file too large, write", "ulimit -f"],
    ["ENOMEM: not enough memory, mmap", "raise the limit"],
    ["spawn /usr/bin/node EAGAIN", "ulimit -u"],
    ["Worker initialization failure: EMFILE", "ulimit -n"],
  ])("%s is the surroundings'", (message, next) => {
    const text = surroundingsText(new Error(message));
    expect(text).toContain(message);
    expect(text).toContain("Next: ");
    expect(text).toContain(next);
  });

  it.each([
    "EAGAIN: resource temporarily unavailable, read",
    "ENOENT: no such file or directory, open '/x'",
    "EACCES: permission denied, open '/x'",
    "Cannot read properties of undefined (reading 'x')",
    "EMFILES is no errno",
  ])("%s is none of theirs", (message) => {
    expect(surroundingsText(new Error(message))).toBeNull();
    expect(lackIn(message)).toBeNull();
  });

  it("is found behind its effects", () => {
    const cause = new Error("ENOSPC: no space left on device, write");
    expect(surroundingsText(new Error("the run ended", { cause }))).toContain("no space left");
  });

  it("of getcwd is a working directory that is gone", () => {
    const error = systemError({ message: "ENOENT: no such file or directory, uv_cwd", syscall: "uv_cwd" });
    expect(surroundingsText(error)).toContain("the working directory does not exist any more");
  });

  it("below /proc/self is a /proc that is not mounted", () => {
    const error = systemError({ message: "ENOENT: open", path: "/proc/self/mountinfo", code: "ENOENT" });
    expect(surroundingsText(error)).toContain("Next: mount -t proc proc /proc");
  });

  it("of mkdtemp is the temporary folder's", () => {
    const path = "/none/daxfault-XXXXXX";
    const error = systemError({ message: "ENOENT: mkdtemp", code: "ENOENT", syscall: "mkdtemp", path });
    expect(surroundingsText(error)).toContain('temporary folder "/none": there is no such folder (ENOENT)');
  });

  it("may be anything that was thrown", () => {
    expect(surroundingsText("ENOSPC")).toBeNull();
    expect(surroundingsText(undefined)).toBeNull();
    expect(surroundingsText(new SurroundingsError({ what: "no room", next: "make some" }))).toBe(
      "no room. Next: make some",
    );
  });
});

describe("a temporary folder", () => {
  it("whose name is not UTF-8 is another name to Node", () => {
    const problem = folderProblem("/tmp/\u{fffd}", { code: "ENOENT" });
    expect(problem?.what).toContain("its name is not UTF-8");
  });

  it("may fail for reasons that say nothing of it", () => {
    expect(folderProblem("/tmp", { code: "EINVAL" })).toBeNull();
    expect(folderProblem("/tmp", new Error("x"))).toBeNull();
  });
});

describe("/proc", () => {
  it("has to be mounted, for this PID namespace", () => {
    expect(procProblem("17", 17)).toBeNull();
    expect(procProblem(null, 17)?.what).toContain("/proc is not mounted");
    const foreign = procProblem("4711", 1);
    expect(foreign?.what).toContain("another PID namespace (this process is 4711 there, and 1 here)");
    expect(foreign === null ? "" : problemText(foreign)).toContain("Next: mount -t proc proc /proc");
  });
});

describe("descriptors", () => {
  const limits = (soft: string): string =>
    `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 4096                 files\n`;

  it.each([
    ["1023", "may have 1023 descriptors"],
    ["16", "may have 16 descriptors"],
  ])("%s are too few", (soft, what) => {
    expect(descriptorsProblem(limits(soft))?.what).toContain(what);
  });

  it.each(["1024", "4096", "unlimited"])("%s are enough", (soft) => {
    expect(descriptorsProblem(limits(soft))).toBeNull();
  });

  it("cannot be judged without /proc", () => expect(descriptorsProblem("")).toBeNull());
});
