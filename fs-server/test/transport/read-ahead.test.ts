/**
 * What the client's kernel makes of a file that the host has cut while read-ahead was under way: a reproduction of the one
 * difference that random operations with the host's mixed in have found (stress/fsx.ts), and whose it is.
 *
 * fuse_short_read() takes the end of a READ that ended early for the size of the file (fs/fuse/file.c), with a new
 * attr_version; fuse_change_attributes() then drops the answer to a GETATTR that was sent before (fs/fuse/inode.c). A READ
 * from behind the new end has no byte and ends where it began: the kernel's size is then neither the old nor the new one.
 */
import { closeSync, fstatSync, openSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { declare, files } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { noMountBecause, startServer } from "../support/server.ts";

const fadvise = declare<(fd: number, offset: bigint, length: bigint, advice: number) => number>(
  "int posix_fadvise(int fd, int64 offset, int64 length, int advice)",
);
const FADV_WILLNEED = 3;
const AHEAD = 128 * 1024;
const CUT = 10_000;
/** The READ is answered while the GETATTR is under way. */
const READ_MS = 300;
const GETATTR_MS = 900;

describe.skipIf(noMountBecause("devfuse") !== null)("read-ahead from behind a new end", () => {
  it.each([
    ["O_APPEND, which the request says", files.O_APPEND, 0, CUT],
    // null: where the kernel aims it.
    ["RWF_APPEND, which it does not", 0, files.RWF_APPEND, null],
  ])("and an append by %s", async (how, openFlags, writeFlags, end) => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const [path, rules] = [join(mounted, "file"), join(temporaryDirectory(), "rules")];
    writeFileSync(join(source, "file"), Buffer.alloc(2 * AHEAD, 1));
    writeFileSync(
      rules,
      JSON.stringify([
        { operation: "read", at: AHEAD, after: 0, times: 1, action: { kind: "delay", ms: READ_MS } },
        { operation: "getattr", after: 0, times: null, action: { kind: "delay", ms: GETATTR_MS } },
      ]),
    );
    const caches = ["--entry-timeout", "0", "--attr-timeout", "0"];
    const args = ["--source", source, "--mountpoint", mounted, "--faults", rules, "--debug", ...caches];
    const server = await startServer(args);
    const fd = openSync(path, files.O_RDWR | openFlags);
    expect(fadvise(fd, BigInt(AHEAD), BigInt(AHEAD), FADV_WILLNEED)).toBe(0);
    truncateSync(join(source, "file"), CUT);
    // The server's answer, which is right.
    expect(fstatSync(fd).size).toBe(CUT);
    expect(files.pwritev2(fd, Buffer.from("appended"), 0n, writeFlags)).toBe(8);
    closeSync(fd);
    const { size } = statSync(join(source, "file"));
    const { stderr } = await server.stop();
    const write = /rx \d+: WRITE .*offset=(\d+) size=8/.exec(stderr);
    const aimed = Number(write?.[1]);
    const [, unique] = /rx (\d+): READ n\d+ \{fh=\d+ offset=131072 /.exec(stderr) ?? [];
    const read = new RegExp(`tx ${unique}: 0, (\\d+) bytes`).exec(stderr);
    expect(read?.[1]).toBe("0");
    // AHEAD: the kernel's own size; CUT: a kernel that keeps what it was answered.
    expect([AHEAD, CUT]).toContain(aimed);
    expect(size).toBe((end ?? aimed) + 8);
    console.log(`${how}: WRITE at ${aimed}, the file ends at ${size}`);
  });
});
