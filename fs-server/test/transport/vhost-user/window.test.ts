/** The DAX window of a VMM that maps it, as QEMU does: buffers in it, guards, and ends in the middle of a request. */
import { type ChildProcess, spawn } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { files } from "../../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { isLong } from "../../../../sys/test/support/long.ts";
import { PreContentGuard } from "../../../src/guard/pre-content.ts";
import { GuardRefused } from "../../../src/guard/truncation-guard.ts";
import { encodeRequest, MemoryClient } from "../../../src/transport/memory/client.ts";
import { FrontEnd } from "../../support/front-end.ts";
import { MappedWindow } from "../../support/mapped-window.ts";
import { type Server, startServer } from "../../support/server.ts";

const RANGE = 2 * 2 ** 20;
const WINDOW = 64 * 2 ** 20;
/** Where the guest has it. */
const WINDOW_GPA = 2n ** 34n;
const NO_HANDLE = 2n ** 64n - 1n;
const EFAULT = 14;
const PAGES = 8;
const BOUND_MS = 120_000;

let server: Server | null = null;
afterEach(async () => {
  await server?.stop("SIGKILL");
  server = null;
});

type Setting = { readonly frontEnd: FrontEnd; readonly client: MemoryClient; readonly source: string };

/** A guest that has mounted a folder with a file of one range, and an empty one. */
async function mounted(...args: readonly string[]): Promise<Setting> {
  const source = temporaryDirectory();
  writeFileSync(join(source, "range"), Buffer.alloc(RANGE, "r"));
  writeFileSync(join(source, "target"), "");
  const path = join(temporaryDirectory(), "socket");
  const window = ["--dax-window", String(WINDOW)];
  server = await startServer([
    "--shared-dir",
    source,
    "--socket-path",
    path,
    "--tag",
    "myfs",
    ...window,
    ...args,
  ]);
  const frontEnd = new FrontEnd(path);
  frontEnd.begin();
  const client = new MemoryClient(frontEnd.handler, { split: null });
  expect(client.init().errno).toBe(0);
  return { frontEnd, client, source };
}

function lookup(client: MemoryClient, name: string): bigint {
  const { errno, body } = client.call("LOOKUP", { names: [name] });
  expect(errno).toBe(0);
  return body.getBigUint64(0, true);
}

const wholeRange = (node: bigint) => ({
  node,
  args: { fh: NO_HANDLE, foffset: 0n, len: BigInt(RANGE), flags: 3n, moffset: 0n },
});

/** pre-content needs Linux 6.14 and root. */
async function refusal(): Promise<string | null> {
  try {
    await (await PreContentGuard.open({ boundMs: 2000 })).close();
    return null;
  } catch (error) {
    if (error instanceof GuardRefused) return error.message;
    throw error;
  }
}
const noGuard = await refusal();

describe("a buffer of the guest in the window", { timeout: BOUND_MS }, () => {
  it("whose file the host made shorter is EFAULT for the guest's write, and the server goes on", async () => {
    const { frontEnd, client, source } = await mounted();
    let fd = -1;
    frontEnd.onShmem = (request) => {
      if (request.kind === "map") fd = request.fd;
      return 0n;
    };
    expect(client.call("SETUPMAPPING", wholeRange(lookup(client, "range"))).errno).toBe(0);
    // What QEMU does next: each mapping is one of its memory regions.
    const place = { userAddress: 2n ** 46n, lengthBytes: BigInt(RANGE) };
    expect(frontEnd.addRegion(WINDOW_GPA, fd, place)).toBe(0n);
    const node = lookup(client, "target");
    const handle = client.call("OPEN", { node, args: { flags: 2 } }).body.getBigUint64(0, true);
    const write = (): number => {
      const args = { fh: handle, offset: 0n, size: 4096 };
      const message = Buffer.from(encodeRequest("WRITE", 1000n, { node, args }));
      message.writeUInt32LE(message.length + 4096, 0);
      const answer = frontEnd.request(message, 4096, { tail: { gpa: WINDOW_GPA, lengthBytes: 4096 } });
      return Math.abs(answer.readInt32LE(4));
    };
    expect(write()).toBe(0);
    truncateSync(join(source, "range"), 0);
    expect(write()).toBe(EFAULT);
    expect(client.call("GETATTR", { node, args: {} }).errno).toBe(0);
    files.close(fd);
    frontEnd.leave();
    expect(await server?.ended).toMatchObject({ code: 0 });
  });
});

describe("a guarded window", { timeout: BOUND_MS }, () => {
  it.skipIf(noGuard !== null)(
    `is empty before the host's truncation proceeds, beside two vCPUs that spin (${noGuard ?? "pre-content"})`,
    async () => {
      const { frontEnd, client, source } = await mounted("--guard", "pre-content");
      const window = new MappedWindow(WINDOW, 3);
      frontEnd.onShmem = (request) => window.answer(request);
      expect(client.call("SETUPMAPPING", wholeRange(lookup(client, "range"))).errno).toBe(0);
      await window.spin(PAGES);
      const rounds = isLong ? 300 : 15;
      const host = truncating(join(source, "range"), rounds);
      for (; host.exitCode === null; await nextTurn()) {
        window.turn();
        while (frontEnd.hasShmemWithin(0)) frontEnd.answerChannel();
      }
      expect(host.exitCode).toBe(0);
      expect(window.lost).toBe(0);
      // It was taken away and given back each time, but where the next truncation was faster.
      expect(window.maps).toBeGreaterThan(rounds / 2);
      await window.close();
      frontEnd.leave();
      expect((await server?.ended)?.stderr).toContain("recall:");
    },
  );
});

describe("a window of leased files", { timeout: BOUND_MS }, () => {
  it("has several parts of one at once: the server's own opens break no lease", async () => {
    const { frontEnd, client, source } = await mounted("--guard", "kernel-lease");
    const window = new MappedWindow(WINDOW, 3);
    frontEnd.onShmem = (request) => window.answer(request);
    writeFileSync(join(source, "long"), Buffer.alloc(2 * RANGE, "l"));
    const node = lookup(client, "long");
    for (const offset of [0n, BigInt(RANGE)]) {
      const args = { ...wholeRange(node).args, foffset: offset, moffset: offset };
      expect(client.call("SETUPMAPPING", { node, args }).errno).toBe(0);
    }
    await window.close();
    frontEnd.leave();
    const ended = await server?.ended;
    expect(ended).toMatchObject({ code: 0 });
    expect(ended?.stderr).not.toContain("recall:");
  });
});

/** A process that makes a file empty and long again, so many times. */
function truncating(path: string, rounds: number): ChildProcess {
  const loop = `i=0; while [ $i -lt ${rounds} ]; do : > "$1" && truncate -s ${RANGE} "$1" && sleep 0.01 || exit 1; i=$((i + 1)); done`;
  return spawn("sh", ["-c", loop, "sh", path], { stdio: "ignore" });
}

describe("a VMM that ends while the server waits for it", { timeout: BOUND_MS }, () => {
  it("ends the request, and the server says that it has left", async () => {
    const { frontEnd, client } = await mounted();
    const node = lookup(client, "range");
    // Left without an answer: the thread that serves SETUPMAPPING waits for the main thread, and that for the VMM.
    frontEnd.offerMessage(encodeRequest("SETUPMAPPING", 1000n, wholeRange(node)));
    expect(frontEnd.hasShmemWithin(10_000)).toBe(true);
    frontEnd.leave();
    const ended = await server?.ended;
    expect(ended).toMatchObject({ code: 0 });
    expect(ended?.stderr).toContain("the front-end has left: ended");
    // The connection's end was enough: the channel's own bound was not waited for.
    expect(ended?.stderr).not.toContain("no answer within");
  });
});
