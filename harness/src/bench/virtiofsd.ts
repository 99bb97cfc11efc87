/**
 * `serve --socket-path` beside the virtiofsd of Debian's stable distribution: one Linux guest in QEMU has a virtio-fs of each, and
 * one of ours with a DAX window, and does the same work on them in turns. Ratios are of one run.
 *
 * Work in the guest is harness/bench/guest-files.c. A fourth device has the guest's root file system, this machine's own.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { onAbort } from "../abort.ts";
import { obtainDaxQemu, WINDOW_DEVICE } from "../kernel/dax-qemu.ts";
import { KernelError } from "../kernel/error.ts";
import { obtainGuestOnRoot } from "../kernel/guest.ts";
import { GUEST_TEMPORARY } from "../kernel/initramfs.ts";
import { slownessOf } from "../kernel/qemu.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { obtainVirtiofsd } from "../kernel/virtiofsd.ts";
import { builtPath, packagePath } from "../paths.ts";
import type { RunDirectory } from "../run/directory.ts";
import { childEnvironment, toolEnvironment } from "../run/tag.ts";
import { within } from "../within.ts";
import { quantile } from "./quantile.ts";
import { PLACES, type Place, type RowName, rowNames, type Turn, turnIn } from "./virtiofsd-turns.ts";

export type VirtiofsdOptions = {
  readonly guestSpec: KernelSpec;
  /** KVM runs the guest, or an emulator. */
  readonly accelerator: "kvm" | "tcg";
  /** `--qemu`; null: any that has a DAX window. */
  readonly qemuPath: string | null;
  readonly fileBytes: number;
  /** Made, looked at and removed a turn. */
  readonly files: number;
  /** Of random access, a turn. */
  readonly operations: number;
  readonly rounds: number;
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
};

export type VirtiofsdRow = {
  readonly row: RowName;
  /** Units a second, medians: bytes, operations or files. */
  readonly ours: number;
  readonly theirs: number;
  readonly dax: number;
  /** Ours with virtiofsd's as 1; with DAX, the same. */
  readonly ratio: number;
  readonly daxRatio: number;
};

export type VirtiofsdResult = {
  /** Package and version. */
  readonly peer: string;
  readonly qemu: string;
  readonly accelerator: "kvm" | "tcg";
  readonly guestKernel: string;
  readonly fileBytes: number;
  readonly files: number;
  readonly operations: number;
  readonly rounds: number;
  readonly rows: readonly VirtiofsdRow[];
  /** The most that each server had resident. */
  readonly peakRssBytes: Readonly<Record<Place, number>>;
};

const RAM_MIB = 768;
const WINDOW_MIB = 64;
const ROOT_TAG = "root";
const QUEUE_SIZE = 1024;
const READY_BOUND_MS = 30_000;
const END_BOUND_MS = 5000;
/** A boot, and a round, on a machine with KVM. */
const BOOT_MS = 30_000;
const ROUND_MS = 60_000;
/** Of the tree: folders, files in each, and their sizes in turn; a source tree's. */
const TREE_FOLDERS = 24;
const TREE_FILES = 25;
const TREE_BYTES = [300, 2000, 6000, 14_000, 40_000] as const;
const COMMAND_LINE =
  "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr reboot=k random.trust_cpu=on";
const DEFECTS = 5;

type Child = ReturnType<typeof startChild>;
type Server = { readonly child: Child; readonly socketPath: string; words: string };

function startChild(command: readonly string[], directory: string) {
  const [program = "", ...args] = command;
  return execa(program, args, {
    cwd: directory,
    env: childEnvironment(directory),
    stdio: ["ignore", "pipe", "pipe"],
    buffer: false,
    reject: false,
  });
}

/** The same in each place. */
function fillFolder(folder: string, fileBytes: number): void {
  mkdirSync(folder);
  writeFileSync(join(folder, "data"), Buffer.alloc(fileBytes, "data"));
  for (let i = 0; i < TREE_FOLDERS; i += 1) {
    const inner = join(folder, "tree", `folder-${i}`);
    mkdirSync(inner, { recursive: true });
    for (let j = 0; j < TREE_FILES; j += 1) {
      const bytes = TREE_BYTES[(i + j) % TREE_BYTES.length] ?? 0;
      writeFileSync(join(inner, `file-${j}.c`), Buffer.alloc(bytes, "text\n"));
    }
  }
}

function oursCommand(source: string, socketPath: string, more: readonly string[]): readonly string[] {
  const main = builtPath("fs-server/src/serve-main.ts");
  const place = ["--shared-dir", source, "--socket-path", socketPath];
  return [process.execPath, main, ...place, "--parent-pid", String(process.pid), ...more];
}

/** Waits until it listens. Throws a KernelError with its last words. */
async function startServer(name: string, command: readonly string[], directory: string): Promise<Server> {
  const socketPath = join(directory, `${name}.sock`);
  const child = startChild(command, directory);
  const server: Server = { child, socketPath, words: "" };
  let reached: () => void = () => undefined;
  const listens = new Promise<void>((resolve) => {
    reached = resolve;
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      server.words = (server.words + text).slice(-4096);
      // virtiofsd's word, and ours.
      if (/Waiting for vhost-user socket connection|"type":"ready"/.test(server.words)) reached();
    });
  }
  if (await within(Promise.race([listens, child.then(() => Promise.reject(new Error()))]), READY_BOUND_MS)) {
    if (child.exitCode === null) return server;
  }
  child.kill("SIGKILL");
  throw new KernelError(`${name} does not listen: ${server.words.trim().split("\n").at(-1) ?? ""}`);
}

function peakRssBytes({ child }: Server): number {
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

const optionText = (path: string): string => path.replaceAll(",", ",,");

function qemuArguments(
  { accelerator }: VirtiofsdOptions,
  { image, initrd }: { readonly image: string; readonly initrd: string },
  servers: Readonly<Record<Place | typeof ROOT_TAG, Server>>,
): readonly string[] {
  const devices = Object.entries(servers).flatMap(([tag, { socketPath }]) => {
    const device =
      tag === "ours-dax"
        ? `${WINDOW_DEVICE},chardev=${tag},virtio-id=26,num_vqs=2,config_size=40,vq_size=${QUEUE_SIZE}`
        : `vhost-user-fs-pci,chardev=${tag},tag=${tag},queue-size=${QUEUE_SIZE}`;
    return ["-chardev", `socket,id=${tag},path=${optionText(socketPath)}`, "-device", device];
  });
  return [
    ...[
      "-accel",
      accelerator === "kvm" ? "kvm" : "tcg,thread=multi",
      "-cpu",
      accelerator === "kvm" ? "host" : "max",
    ],
    ...["-smp", "1", "-m", `${RAM_MIB}M`, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-run-with", "exit-with-parent=on"],
    ...[
      "-object",
      `memory-backend-memfd,id=ram,size=${RAM_MIB}M,share=on`,
      "-machine",
      "q35,memory-backend=ram",
    ],
    ...["-serial", "stdio", "-kernel", image, "-initrd", initrd, "-append", COMMAND_LINE],
    ...devices,
  ];
}

type Heard = { readonly turns: Turn[]; readonly lines: string[]; isDone: boolean };

/** The guest from its start to its end. Throws a KernelError that says how it ended instead. */
async function runGuest(
  command: readonly string[],
  options: VirtiofsdOptions,
  directory: string,
): Promise<readonly Turn[]> {
  const { accelerator, rounds, signal, progress } = options;
  const qemu = startChild(command, directory);
  const heard: Heard = { turns: [], lines: [], isDone: false };
  createInterface(qemu.stdout).on("line", (line) => {
    const turn = turnIn(line);
    if (turn === "done") heard.isDone = true;
    else if (turn === null) heard.lines.push(line.trim());
    else {
      heard.turns.push(turn);
      progress(
        `${turn.row} on ${turn.place}, ${heard.turns.length} of ${rounds * rowNames.length * PLACES.length}`,
      );
    }
  });
  qemu.stderr.setEncoding("utf8").on("data", (text: string) => heard.lines.push(text.trim()));
  const stop = onAbort(signal, () => void qemu.kill("SIGKILL"));
  const boundMs = (BOOT_MS + rounds * ROUND_MS) * slownessOf(accelerator);
  const isInTime = await within(qemu, boundMs);
  if (!isInTime) qemu.kill("SIGKILL");
  await qemu;
  stop();
  signal.throwIfAborted();
  if (!heard.isDone) {
    const last = heard.lines.filter((line) => line !== "").slice(-DEFECTS);
    throw new KernelError(
      `the guest ${isInTime ? "ended early" : `was not done after ${boundMs} ms`}: ${last.join(" | ")}`,
    );
  }
  return heard.turns;
}

/** The median of each row's rounds, each place by itself. */
export function virtiofsdRows(turns: readonly Turn[]): readonly VirtiofsdRow[] {
  const figure = (row: RowName, place: Place): number => {
    const figures = turns
      .filter((turn) => turn.row === row && turn.place === place)
      .map(({ units, nanoseconds }) => (units * 1e9) / nanoseconds);
    return quantile(
      figures.toSorted((a, b) => a - b),
      0.5,
    );
  };
  return rowNames.map((row) => {
    const [ours, theirs, dax] = [figure(row, "ours"), figure(row, "virtiofsd"), figure(row, "ours-dax")];
    return { row, ours, theirs, dax, ratio: ours / theirs, daxRatio: dax / theirs };
  });
}

/** The guest's program, static. Throws a KernelError. */
async function buildProgram(directory: string): Promise<string> {
  const program = join(directory, "guest-files");
  const source = packagePath("harness/bench/guest-files.c");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static"];
  const built = await execa("gcc", [...flags, "-o", program, source], {
    env: toolEnvironment(directory),
    reject: false,
  });
  if (built.failed) throw new KernelError(`gcc ${source}: ${built.stderr || built.message}`);
  return program;
}

async function startServers(
  peer: readonly string[],
  options: VirtiofsdOptions,
  directory: string,
  servers: Map<Place | typeof ROOT_TAG, Server>,
): Promise<void> {
  const commands: Readonly<
    Record<Place | typeof ROOT_TAG, (source: string, socket: string) => readonly string[]>
  > = {
    ours: (source, socket) => oursCommand(source, socket, []),
    virtiofsd: (source, socket) => [
      ...peer,
      "--shared-dir",
      source,
      "--socket-path",
      socket,
      "--sandbox",
      "none",
    ],
    "ours-dax": (source, socket) =>
      oursCommand(source, socket, ["--tag", "ours-dax", "--dax-window", `${WINDOW_MIB}M`]),
    root: (_, socket) =>
      oursCommand("/", socket, ["--read-only", "--announce-submounts", "--cache", "always"]),
  };
  for (const name of [...PLACES, ROOT_TAG] as const) {
    const source = join(directory, `source-${name}`);
    if (name !== ROOT_TAG) fillFolder(source, options.fileBytes);
    const command = commands[name](source, join(directory, `${name}.sock`));
    servers.set(name, await startServer(name, command, directory));
  }
}

/** Throws a KernelError where something cannot be had, or the guest did not come so far. */
export async function benchVirtiofsd(options: VirtiofsdOptions): Promise<VirtiofsdResult> {
  const { signal, progress, accelerator, fileBytes, files, operations, rounds } = options;
  progress("QEMU, virtiofsd and the guest's kernel");
  const qemu = await obtainDaxQemu({ path: options.qemuPath, signal, progress });
  const peer = await obtainVirtiofsd(signal, progress);
  const directory = options.directory.caseDirectory("bench");
  const program = await buildProgram(directory);
  const folders = PLACES.map((name) => join(GUEST_TEMPORARY, name));
  const guest = await obtainGuestOnRoot({
    spec: options.guestSpec,
    modulesDirectory: null,
    signal,
    bus: "pci",
    rootTag: ROOT_TAG,
    shares: PLACES.map((name) => ({ tag: name, name, options: name === "ours-dax" ? "dax=always" : "" })),
    program: {
      command: [program, String(rounds), String(files), String(operations), ...folders],
      environment: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    },
  });
  const [image, initrd] = [join(directory, "image"), join(directory, "initrd")];
  writeFileSync(image, readFileSync(guest.kernel.imagePath));
  writeFileSync(initrd, guest.initrd);
  const servers = new Map<Place | typeof ROOT_TAG, Server>();
  try {
    await startServers(peer.command, options, directory, servers);
    const all = Object.fromEntries(servers) as Record<Place | typeof ROOT_TAG, Server>;
    progress("the guest boots");
    // Read while they live: they end with their VMM.
    const peaks = { ours: 0, virtiofsd: 0, "ours-dax": 0 } satisfies Record<Place, number>;
    const watch = setInterval(() => notePeaks(all, peaks), 1000);
    const turns = await runGuest(
      [...qemu.command, ...qemuArguments(options, { image, initrd }, all)],
      options,
      directory,
    ).finally(() => clearInterval(watch));
    const { origin: guestKernel } = guest.kernel;
    const about = { peer: peer.origin, qemu: `${qemu.origin}, ${qemu.version}`, accelerator, guestKernel };
    return {
      ...about,
      fileBytes,
      files,
      operations,
      rounds,
      rows: virtiofsdRows(turns),
      peakRssBytes: peaks,
    };
  } finally {
    await Promise.all([...servers.values()].map(endServer));
  }
}

function notePeaks(servers: Readonly<Record<Place, Server>>, peaks: Record<Place, number>): void {
  for (const place of PLACES) {
    try {
      peaks[place] = Math.max(peaks[place], peakRssBytes(servers[place]));
    } catch {
      // It has ended with its VMM.
    }
  }
}

async function endServer({ child }: Server): Promise<void> {
  child.kill("SIGTERM");
  if (!(await within(child, END_BOUND_MS))) child.kill("SIGKILL");
  await child;
}
