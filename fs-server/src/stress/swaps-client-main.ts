/**
 * A client of the mount, as another user: `swaps-client-main MOUNT SEED UID LEAST INODES` walks, opens, creates, renames, links
 * and removes, by names that may be links at the time, and looks whether it ever meets what lies outside, until it is sent
 * SIGTERM and has made LEAST steps. Its own kernel follows links in its own name space; the server must not. Prints how often each errno came, and
 * what it met.
 */
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { files } from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";
import { FOLDERS, MANY, SECRET, VICTIMS } from "./swaps-tree.ts";

const BURST = 32;

/** Steps at the beginning that only look: the first change of what is outside takes away what could be read there. */
const LOOKS_FIRST = 300;

type Step = readonly [what: string, act: () => number];

class Client {
  readonly #mount: string;
  readonly #random: Random;
  readonly #outside: ReadonlySet<bigint>;
  readonly counts: Record<string, number> = {};
  /** What was met, each kind once: where. */
  readonly #met = new Map<string, string>();
  /** Change nothing. */
  readonly #looks: readonly Step[];
  readonly #steps: readonly Step[];
  /** Steps. */
  taken = 0;

  constructor(mount: string, seed: number, outside: ReadonlySet<bigint>) {
    this.#mount = mount;
    this.#random = new Random(seed);
    this.#outside = outside;
    const cwd = files.AT_FDCWD;
    const write = files.O_WRONLY;
    const made = (): Uint8Array => this.#path(`made-${this.#random.below(20)}`);
    const victim = (): Uint8Array => this.#path(VICTIMS.file);
    const victimFolder = (): Uint8Array => this.#path(VICTIMS.folder);
    const top = (): Uint8Array => files.pathBytes(join(this.#mount, `top-${this.#random.below(20)}`));
    this.#looks = [
      ["stat", () => this.#stat(cwd, this.#path("canary"))],
      ["stat folder", () => this.#stat(cwd, this.#path("."))],
      ["read", () => this.#opened(this.#path("canary"), files.O_RDONLY)],
      ["read, no link", () => this.#opened(this.#path("canary"), files.O_RDONLY | files.O_NOFOLLOW)],
      ["through a descriptor", () => this.#below()],
      [
        "many",
        () => this.#stat(cwd, files.pathBytes(join(this.#mount, "many", `${this.#random.below(MANY)}`))),
      ],
      // These exist outside only: success is a breach.
      ["!stat", () => this.#stat(cwd, victim())],
      ["!read", () => this.#opened(victim(), files.O_RDONLY)],
    ];
    this.#steps = [
      ...this.#looks,
      ["overwrite", () => this.#opened(this.#path("canary"), write)],
      ["truncate", () => files.truncate(this.#path("canary"), BigInt(this.#random.below(9)))],
      ["create", () => this.#opened(made(), write | files.O_CREAT)],
      ["create over", () => this.#opened(this.#path("canary"), write | files.O_CREAT | files.O_TRUNC)],
      ["rename", () => files.renameat2(cwd, made(), cwd, made(), 0)],
      ["rename up", () => files.renameat2(cwd, made(), cwd, top(), 0)],
      ["rename down", () => files.renameat2(cwd, top(), cwd, made(), 0)],
      ["link", () => files.linkat(cwd, made(), cwd, made(), 0)],
      ["symlink", () => files.symlinkat(files.pathBytes("canary"), cwd, made())],
      ["unlink", () => files.unlinkat(cwd, made(), 0)],
      ["mkdir", () => files.mkdirat(cwd, made(), 0o777)],
      ["rmdir", () => files.unlinkat(cwd, made(), files.AT_REMOVEDIR)],
      ["chmod", () => files.fchmodat(cwd, made(), 0o640)],
      // As with the looks: these exist outside only.
      ["!write", () => this.#opened(victim(), write)],
      ["!truncate", () => files.truncate(victim(), 0n)],
      ["!unlink", () => files.unlinkat(cwd, victim(), 0)],
      ["!rename", () => files.renameat2(cwd, victim(), cwd, top(), 0)],
      ["!link", () => files.linkat(cwd, victim(), cwd, top(), 0)],
      ["!chmod", () => files.fchmodat(cwd, victim(), 0o600)],
      ["!rmdir", () => files.unlinkat(cwd, victimFolder(), files.AT_REMOVEDIR)],
      ["!create in", () => this.#opened(this.#path(`${VICTIMS.folder}/made`), write | files.O_CREAT)],
    ];
  }

  step(): void {
    const [what, act] = this.#random.pick(this.taken < LOOKS_FIRST ? this.#looks : this.#steps);
    this.taken += 1;
    const result = act();
    const outcome = result < 0 ? failure(-result).code : "done";
    const key = `${what}: ${outcome}`;
    this.counts[key] = (this.counts[key] ?? 0) + 1;
    if (what.startsWith("!") && result >= 0) this.#meet(`${what.slice(1)} of what is outside only`);
  }

  get met(): readonly string[] {
    return [...this.#met].map(([what, where]) => `${what}${where}`);
  }

  #meet(what: string, path: Uint8Array | null = null): void {
    const where = path === null ? "" : ` at ${Buffer.from(path.subarray(0, -1)).toString()}`;
    if (!this.#met.has(what)) this.#met.set(what, where);
  }

  #path(name: string): Uint8Array {
    const folder = this.#random.pick(FOLDERS);
    const up = this.#random.below(8) === 0 ? "/inner/.." : "";
    return files.pathBytes(`${join(this.#mount, folder)}${up}/${name}`);
  }

  #stat(directory: number, path: Uint8Array): number {
    const out = new Uint8Array(files.STATX_BYTES);
    const result = files.statx(directory, path, files.AT_SYMLINK_NOFOLLOW, files.STATX_BASIC_STATS, out);
    if (
      result === 0 &&
      this.#outside.has(new DataView(out.buffer).getBigUint64(files.STATX_AT.inode, true))
    ) {
      this.#meet("an inode of outside", path);
    }
    return result;
  }

  /** Opens, reads or writes, looks at the inode. */
  #opened(path: Uint8Array, flags: number, directory: number = files.AT_FDCWD): number {
    const fd = files.openat(directory, path, flags, 0o666);
    if (fd < 0) return fd;
    const content = new Uint8Array(64);
    const isRead = (flags & files.O_ACCMODE) === files.O_RDONLY;
    const got = isRead ? files.pread(fd, content, 0n) : files.pwrite(fd, Buffer.from("written\n"), 0n);
    if (isRead && Buffer.from(content).toString("latin1").startsWith(SECRET.slice(0, 8))) {
      this.#meet("read what is outside", path);
    }
    const out = new Uint8Array(files.STATX_BYTES);
    files.statx(fd, files.EMPTY_PATH, files.AT_EMPTY_PATH, files.STATX_BASIC_STATS, out);
    if (this.#outside.has(new DataView(out.buffer).getBigUint64(files.STATX_AT.inode, true))) {
      this.#meet("opened an inode of outside", path);
    }
    files.close(fd);
    return got;
  }

  /** From a folder's descriptor on: the server gets names below a node that may be elsewhere by now. */
  #below(): number {
    const folder = files.openat(files.AT_FDCWD, this.#path("."), files.O_RDONLY | files.O_DIRECTORY);
    if (folder < 0) return folder;
    const entries = new Uint8Array(8192);
    const length = files.getdents(folder, entries);
    if (Buffer.from(entries.subarray(0, Math.max(0, length))).includes(VICTIMS.file))
      this.#meet("a list of outside");
    this.#stat(folder, files.pathBytes("inner/canary"));
    this.#stat(folder, files.pathBytes("../canary"));
    const result = this.#opened(files.pathBytes("inner/canary"), files.O_RDONLY, folder);
    files.close(folder);
    return result;
  }
}

async function main(): Promise<void> {
  const [mount = ".", seed = "1", uid = "65534", least = "0", inodes = ""] = process.argv.slice(2);
  if (uid !== "0") {
    process.setgroups?.([]);
    process.setgid?.(Number(uid));
    process.setuid?.(Number(uid));
  }
  const client = new Client(mount, Number(seed), new Set(inodes.split(",").map(BigInt)));
  let isOver = false;
  process.once("SIGTERM", () => {
    isOver = true;
  });
  console.log("begun");
  while (!isOver || client.taken < Number(least)) {
    for (let i = 0; i < BURST; i += 1) client.step();
    await nextTurn();
  }
  console.log(JSON.stringify({ counts: client.counts, met: client.met }));
}

await main();
