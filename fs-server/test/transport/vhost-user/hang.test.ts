/** Files of a source that hangs, in the DAX window: they hold up their own requests, and no mapping of another file. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { files } from "../../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { encodeRequest, MemoryClient } from "../../../src/transport/memory/client.ts";
import { FrontEnd, type ShmemRequest } from "../../support/front-end.ts";
import { noMountBecause, type Server, startServer } from "../../support/server.ts";
import { until } from "../../support/until.ts";

const RANGE = 2 * 2 ** 20;
const NO_HANDLE = 2n ** 64n - 1n;
/** Of x86-64 and of arm64 (asm/unistd.h): openat, close. */
const CALLS = { openat: [257, 56], close: [3, 57] } as const;

const reason = noMountBecause("devfuse");
let servers: Server[] = [];
afterEach(async () => {
  for (const server of servers) {
    if (server.process.exitCode === null) process.kill(server.pid, "SIGCONT");
    await server.stop();
  }
  servers = [];
});

async function started(...args: readonly string[]): Promise<Server> {
  const server = await startServer(args);
  servers.push(server);
  return server;
}

type Setting = {
  readonly below: Server;
  readonly server: Server;
  readonly frontEnd: FrontEnd;
  readonly local: bigint;
  readonly hung: bigint;
};

/** A guest that knows a file of the source's own file system, and one of a FUSE mount in it, whose server follows rules. */
async function mounted(rules: readonly object[]): Promise<Setting> {
  const [source, other, apart] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
  mkdirSync(join(source, "mount"));
  for (const path of [join(source, "local"), join(other, "hung")]) writeFileSync(path, Buffer.alloc(RANGE));
  const faults = join(apart, "faults.json");
  writeFileSync(faults, JSON.stringify(rules));
  const mountpoint = join(source, "mount");
  const below = await started("--source", other, "--mountpoint", mountpoint, "--faults", faults);
  const path = join(apart, "socket");
  const at = ["--socket-path", path, "--tag", "myfs", "--dax-window", String(16 * RANGE)];
  const server = await started("--shared-dir", source, ...at, "--announce-submounts");
  const frontEnd = new FrontEnd(path);
  frontEnd.begin();
  frontEnd.onShmem = ({ fd }: ShmemRequest) => {
    if (fd >= 0) files.close(fd);
    return 0n;
  };
  const client = new MemoryClient(frontEnd.handler, { split: null });
  expect(client.init().errno).toBe(0);
  const lookup = (node: bigint, name: string): bigint => {
    const { errno, body } = client.call("LOOKUP", { node, names: [name] });
    expect([name, errno]).toEqual([name, 0]);
    return body.getBigUint64(0, true);
  };
  return { below, server, frontEnd, local: lookup(1n, "local"), hung: lookup(lookup(1n, "mount"), "hung") };
}

function setup(node: bigint, place: number): Uint8Array {
  const args = { fh: NO_HANDLE, foffset: 0n, len: BigInt(RANGE), flags: 3n, moffset: BigInt(place * RANGE) };
  return encodeRequest("SETUPMAPPING", 1000n + BigInt(place), { node, args });
}

/** The errno of the answer, on a queue where nothing hangs. */
function answered(frontEnd: FrontEnd, message: Uint8Array): number {
  return Math.abs(frontEnd.request(message, 4096, { queue: 0 }).readInt32LE(4));
}

/** Whether a thread of the process is in a system call. */
function isIn({ pid }: Server, call: keyof typeof CALLS): boolean {
  return readdirSync(`/proc/${pid}/task`).some((tid) => {
    const path = `/proc/${pid}/task/${tid}/syscall`;
    // A thread may have ended meanwhile.
    const [number] = existsSync(path) ? readFileSync(path, "latin1").split(" ") : [];
    return CALLS[call].some((expected) => expected === Number(number));
  });
}

describe.skipIf(reason !== null)(`a source that hangs (${reason ?? "FUSE"})`, { timeout: 120_000 }, () => {
  it("over an open(2) holds up the mapping of its own file alone", async () => {
    const rule = { operation: "open", at: null, after: 0, times: 1, action: { kind: "hang" } };
    const { below, server, frontEnd, local, hung } = await mounted([rule]);
    frontEnd.offerMessage(setup(hung, 0));
    await until(() => isIn(server, "openat"));
    expect(answered(frontEnd, setup(local, 1))).toBe(0);
    expect(isIn(server, "openat")).toBe(true);
    // Its server's end ends the call, and the request.
    await below.stop();
    await until(() => !isIn(server, "openat"));
    frontEnd.leave();
    expect(await server.ended).toMatchObject({ code: 0 });
  });

  it("over a close(2) holds up nothing", async () => {
    const { below, server, frontEnd, local, hung } = await mounted([]);
    expect(answered(frontEnd, setup(hung, 0))).toBe(0);
    process.kill(below.pid, "SIGSTOP");
    const removal = { moffset: 0n, len: BigInt(RANGE) };
    const args = { count: 1 };
    const payload = Buffer.alloc(16);
    payload.writeBigUInt64LE(removal.moffset, 0);
    payload.writeBigUInt64LE(removal.len, 8);
    const message = encodeRequest("REMOVEMAPPING", 2000n, { node: 0n, args, payload });
    expect(answered(frontEnd, message)).toBe(0);
    await until(() => isIn(server, "close"));
    expect(answered(frontEnd, setup(local, 1))).toBe(0);
    expect(isIn(server, "close")).toBe(true);
    process.kill(below.pid, "SIGCONT");
    await until(() => !isIn(server, "close"));
    frontEnd.leave();
    expect(await server.ended).toMatchObject({ code: 0 });
  });
});
