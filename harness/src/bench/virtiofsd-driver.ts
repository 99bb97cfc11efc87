/**
 * Both servers of `bench virtiofsd` without a guest: a driver of ours sends the same requests to each in turns
 * (fs-server/src/bench/vhost-driver.ts). What a guest's kernel and an emulator cost is not in it, and what the servers' compilers
 * and caches cost where a guest takes the CPU between two requests is not either.
 */
import { readdirSync, readFileSync } from "node:fs";
import { type Answer, type DriverCall, type OpcodeName, VhostDriver } from "../../../fs-server/src/index.ts";
import { median } from "./quantile.ts";
import { type DriverFigures, type DriverRow, type DriverRowName, driverRowNames } from "./virtiofsd-turns.ts";

const TURNS = 7;
/** The first of a row, which are not counted: a server compiles what it runs. */
const WARM_UP = 3;
const FILE = "data";
const FOLDER = "tree/folder-0";
const FILES = 10;
const ROOT = 1n;
const PAGE = 4096;
const CHUNK = 128 * 1024;
const ENTRY_BYTES = 128;
const DIRENT_BYTES = 24;
const READ_FLAGS = { read_flags: 0, lock_owner: 0n, flags: 0 };

/** One server, and a driver whose client has mounted it. */
class Contender {
  readonly #pid: number;
  readonly #driver: VhostDriver;
  readonly #file: bigint;
  readonly #folder: bigint;
  readonly #handle: bigint;
  #tookMs = 0;

  constructor({ pid, socketPath }: Connected) {
    this.#pid = pid;
    this.#driver = new VhostDriver(socketPath);
    const flags = 0xffff_ffff;
    const init = { major: 7, minor: 38, max_readahead: CHUNK, flags: flags & ~(1 << 28), flags2: 0 };
    this.#call("INIT", { node: 0n, args: { ...init, flags: init.flags >>> 0 }, answerBytes: 64 });
    this.#file = this.#found(ROOT, FILE);
    this.#folder = FOLDER.split("/").reduce((node, name) => this.#found(node, name), ROOT);
    this.#handle = this.#opened("OPEN", this.#file, 2);
  }

  /** Throws an Error where the answer is an errno. */
  #call(name: OpcodeName, call: DriverCall): Answer {
    const answer = this.#driver.call(name, call);
    this.#tookMs += this.#driver.lastMs;
    if (answer.errno !== 0) throw new Error(`${name}: errno ${answer.errno}`);
    return answer;
  }

  #found(parent: bigint, name: string): bigint {
    const { body } = this.#call("LOOKUP", { node: parent, names: [name], answerBytes: ENTRY_BYTES });
    return body.getBigUint64(0, true);
  }

  #opened(name: "OPEN" | "OPENDIR", node: bigint, flags: number): bigint {
    return this.#call(name, { node, args: { flags }, answerBytes: 16 }).body.getBigUint64(0, true);
  }

  #read(number: number, size: number): void {
    const offset = BigInt((number % 16) * size);
    const args = { fh: this.#handle, offset, size, ...READ_FLAGS };
    this.#call("READ", { node: this.#file, args, answerBytes: 0, contentBytes: size });
  }

  /** A folder's files, of which the server knows none: they are forgotten at the end. */
  #readFolder(): void {
    const node = this.#folder;
    const fh = this.#opened("OPENDIR", node, 0);
    const args = { fh, offset: 0n, size: PAGE, ...READ_FLAGS };
    this.#call("READDIRPLUS", { node, args, answerBytes: 0, contentBytes: PAGE });
    const nodes = nodesIn(this.#driver.content());
    if (nodes.length !== FILES) throw new Error(`READDIRPLUS: ${nodes.length} files of ${FILES}`);
    this.#call("RELEASEDIR", {
      node,
      args: { fh, flags: 0, release_flags: 0, lock_owner: 0n },
      answerBytes: 0,
    });
    for (const each of nodes)
      this.#driver.call("FORGET", { node: each, args: { nlookup: 1n }, answerBytes: 0 });
  }

  #once(row: DriverRowName, number: number): void {
    const node = this.#file;
    switch (row) {
      case "getattr":
        this.#call("GETATTR", { node: ROOT, args: { getattr_flags: 0, fh: 0n }, answerBytes: 104 });
        return;
      case "lookup":
        this.#found(ROOT, FILE);
        return;
      case "open": {
        const fh = this.#opened("OPEN", node, 0);
        const args = { fh, flags: 0, release_flags: 0, lock_owner: 0n };
        this.#call("RELEASE", { node, args, answerBytes: 0 });
        return;
      }
      case "read-4k":
        this.#read(number, PAGE);
        return;
      case "read-128k":
        this.#read(number, CHUNK);
        return;
      case "write-4k": {
        const offset = BigInt((number % 16) * PAGE);
        const args = { fh: this.#handle, offset, size: PAGE, write_flags: 0, lock_owner: 0n, flags: 0 };
        this.#call("WRITE", { node, args, payload: CONTENT, answerBytes: 8 });
        return;
      }
      case "readdirplus":
        this.#readFolder();
        return;
      default:
        row satisfies never;
    }
  }

  /** Microseconds each: the median of the answers, and the server's CPU time. */
  turn(row: DriverRowName, requests: number): { readonly us: number; readonly cpuUs: number } {
    const before = cpuMsOf(this.#pid);
    const took: number[] = [];
    for (let number = 0; number < requests; number += 1) {
      this.#tookMs = 0;
      this.#once(row, number);
      took.push(this.#tookMs * 1000);
    }
    return { us: median(took), cpuUs: ((cpuMsOf(this.#pid) - before) * 1000) / requests };
  }

  close(): void {
    this.#driver.close();
  }
}

const CONTENT = Buffer.alloc(PAGE, "data");

/** Of the entries of a READDIRPLUS that have one. */
function nodesIn(content: Buffer): readonly bigint[] {
  const nodes: bigint[] = [];
  for (let at = 0; at + ENTRY_BYTES + DIRENT_BYTES <= content.length; ) {
    const nameBytes = content.readUInt32LE(at + ENTRY_BYTES + 16);
    const node = content.readBigUInt64LE(at);
    if (node !== 0n) nodes.push(node);
    at += ENTRY_BYTES + Math.ceil((DIRENT_BYTES + nameBytes) / 8) * 8;
  }
  return nodes;
}

/** Of all threads that there are. */
function cpuMsOf(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce((sum, tid) => {
    try {
      return sum + Number(readFileSync(`${tasks}/${tid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
    } catch {
      // It has ended since.
      return sum;
    }
  }, 0);
}

type Connected = { readonly pid: number; readonly socketPath: string };

/**
 * Each server serves this one connection. Blocks.
 *
 * @param requests a turn
 */
export function driverFigures(
  servers: { readonly ours: Connected; readonly theirs: Connected },
  requests: number,
): DriverFigures {
  const [ours, theirs] = [new Contender(servers.ours), new Contender(servers.theirs)];
  try {
    const rows = driverRowNames.map((row): DriverRow => {
      const turns = Array.from({ length: WARM_UP + TURNS }, () => ({
        ours: ours.turn(row, requests),
        theirs: theirs.turn(row, requests),
      })).slice(WARM_UP);
      const ratios = turns.map((turn) => turn.theirs.us / turn.ours.us);
      return {
        row,
        ours: median(turns.map((turn) => turn.ours.us)),
        theirs: median(turns.map((turn) => turn.theirs.us)),
        ratio: { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) },
        oursCpu: median(turns.map((turn) => turn.ours.cpuUs)),
        theirsCpu: median(turns.map((turn) => turn.theirs.cpuUs)),
      };
    });
    return { requests, turns: TURNS, rows };
  } finally {
    ours.close();
    theirs.close();
  }
}
