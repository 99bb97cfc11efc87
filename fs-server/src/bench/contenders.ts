/** What the measurements compare: the folder itself, our server, and libfuse's passthrough_hp in several modes. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { compiledEntry, LostChildError, mountOf, processState } from "../../../sys/src/index.ts";
import { detach, isFuseMounted } from "../serve/mount-point.ts";
import { noUringBecause } from "../transport/devfuse/rings.ts";

const MOUNT_TIMEOUT_MS = 10_000;
const END_TIMEOUT_MS = 3000;
const POLL_MS = 10;
const DAY_MS = "86400000";

/** Where client and server run: `apart` on two CPUs, `together` on one. */
export type Placement = "apart" | "together";

/** CPU numbers as taskset(1) takes them. */
export type Pins = { readonly client: string; readonly server: string };

type Places = { readonly source: string; readonly mountPoint: string };

export type Contender = {
  readonly name: string;
  /** Its rival: what its figures are divided by. */
  readonly against: string | null;
  /** null: the folder itself, without a server. */
  readonly command: ((places: Places) => readonly string[]) | null;
  /** It serves from a thread on every CPU, so it cannot be pinned to one. */
  readonly everywhere: boolean;
};

/** A contender that cannot take part here, and why. */
export type Absent = { readonly name: string; readonly reason: string };

/** passthrough_hp caches like this by default, so ours does too: server against server. */
const PEER_CACHING = ["--keep-cache", "--entry-timeout", DAY_MS, "--attr-timeout", DAY_MS];

function ours(name: string, against: string | null, more: readonly string[]): Contender {
  const serveMain = compiledEntry(import.meta.url, "../serve-main.ts").pathname;
  return {
    name,
    against,
    everywhere: more.includes("--io-uring"),
    command: ({ source, mountPoint }) => [
      process.execPath,
      serveMain,
      ...["--source", source, "--mountpoint", mountPoint, "--parent-pid", String(process.pid)],
      ...PEER_CACHING,
      ...more,
    ],
  };
}

function theirs(program: string, name: string, more: readonly string[]): Contender {
  const command = ({ source, mountPoint }: Places): readonly string[] => [
    program,
    "--foreground",
    ...more,
    source,
    mountPoint,
  ];
  return { name, against: null, everywhere: more.includes("io_uring"), command };
}

/** All contenders that can run here. `peer`: path of passthrough_hp, or null. */
export function contenders(peer: string | null): {
  readonly present: readonly Contender[];
  readonly absent: readonly Absent[];
} {
  const folder: Contender = { name: "folder", against: null, command: null, everywhere: false };
  const rival = peer === null ? "folder" : "passthrough_hp";
  const present = [folder, ours("devfuse", rival, ["--writeback"])];
  const absent: Absent[] = [];
  const kernelReads = process.geteuid?.() === 0;
  if (kernelReads) {
    present.push(ours("devfuse +PT", peer === null ? "folder" : "passthrough_hp +PT", ["--passthrough"]));
  } else absent.push({ name: "devfuse +PT", reason: "FUSE_PASSTHROUGH needs root" });
  if (peer === null) {
    absent.push({ name: "passthrough_hp", reason: "no --peer; scripts/bench-peer builds Debian's" });
    return { present, absent };
  }
  present.push(theirs(peer, "passthrough_hp", ["--nopassthrough"]));
  if (kernelReads) present.push(theirs(peer, "passthrough_hp +PT", []));
  const noUring = noUringBecause();
  if (noUring === null) {
    present.push(ours("devfuse io_uring", "passthrough_hp io_uring", ["--writeback", "--io-uring"]));
    present.push(theirs(peer, "passthrough_hp io_uring", ["--nopassthrough", "-o", "io_uring"]));
  } else absent.push({ name: "io_uring", reason: noUring });
  return { present, absent };
}

export type Running = {
  readonly contender: Contender;
  readonly folder: string;
  /** Peak resident memory of the server so far, or null where there is none. */
  peakRssBytes(): number | null;
  /** Why its server cannot answer any more, or null. */
  lost(): string | null;
  /** Kills its server: the connection ends, and every request with it. */
  kill(): void;
  /** What it has read into its memory so far by read(2) and the like, or null where there is no server. */
  readBytes(): number | null;
  stop(): Promise<void>;
};

/** Starts a contender below `base`, pinned, and waits until it is mounted. */
export async function started(
  contender: Contender,
  base: string,
  pins: Pins,
  environment: Readonly<Record<string, string>>,
): Promise<Running> {
  const label = contender.name.replaceAll(/\W/g, "-");
  const places = { source: join(base, `${label}-source`), mountPoint: join(base, `${label}-mount`) };
  mkdirSync(places.source);
  if (contender.command === null) {
    return {
      contender,
      folder: places.source,
      peakRssBytes: () => null,
      readBytes: () => null,
      lost: () => null,
      kill: () => {},
      stop: async () => {},
    };
  }
  mkdirSync(places.mountPoint);
  const cpus = contender.everywhere ? [...new Set([pins.client, pins.server])].join(",") : pins.server;
  const child = spawn("taskset", ["-c", cpus, ...contender.command(places)], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...environment },
  });
  let said = "";
  child.stderr.on("data", (data: Buffer) => {
    said = (said + data.toString()).slice(-2000);
  });
  const stop = (): Promise<void> => stopped(child, places.mountPoint);
  const deadline = performance.now() + MOUNT_TIMEOUT_MS;
  while (!isFuseMounted(places.mountPoint)) {
    const lost = lostServer(child);
    if (performance.now() > deadline || lost !== null) {
      if (lost !== null) child.kill("SIGKILL");
      await stop();
      if (lost !== null && child.signalCode !== null) throw new LostChildError(`${contender.name}: ${lost}`);
      const bound = `within ${MOUNT_TIMEOUT_MS} ms`;
      throw new Error(`${contender.name} did not mount ${bound} (exit ${child.exitCode}): ${said.trim()}`);
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  const { pid } = child;
  return {
    contender,
    folder: places.mountPoint,
    peakRssBytes: () => statusNumber(pid, "status", /VmHWM:\s+(\d+)/) * 1024,
    lost: () => lostServer(child),
    kill: () => void child.kill("SIGKILL"),
    readBytes: () => statusNumber(pid, "io", /rchar:\s+(\d+)/),
    stop,
  };
}

function lostServer(child: ChildProcess): string | null {
  if (child.signalCode !== null) return `its server was killed by ${child.signalCode}`;
  if (child.exitCode !== null) return `its server ended with ${child.exitCode}`;
  const state = child.pid === undefined ? "ending" : processState(child.pid);
  if (state === "running") return null;
  return state === "stopped" ? "its server is stopped" : "its server was ended";
}

async function stopped(child: ChildProcess, mountPoint: string): Promise<void> {
  detach(mountPoint);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), END_TIMEOUT_MS);
  await ended;
  clearTimeout(late);
}

function statusNumber(pid: number | undefined, file: "status" | "io", pattern: RegExp): number {
  try {
    return Number(pattern.exec(readFileSync(`/proc/${pid}/${file}`, "utf8"))?.[1] ?? 0);
  } catch {
    throw new LostChildError(`process ${pid}, a server, has ended`);
  }
}

/** What the sources lie on: a disk is measured with it, a tmpfs is not. */
export function sourceType(folder: string): string {
  return mountOf(folder)?.type ?? "unknown";
}
