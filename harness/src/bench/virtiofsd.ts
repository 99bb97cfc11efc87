/**
 * `serve --socket-path` beside the virtiofsd of Debian's stable distribution. First speed: one Linux guest in QEMU has a virtio-fs
 * of each, and one of ours with a DAX window, and does the same work on them in turns; ratios are of one run. Then memory
 * (virtiofsd-memory.ts).
 *
 * Work in the guest is harness/bench/guest-files.c, the guest's only program, or what that starts: fio, find and tar of Debian's,
 * over one more virtio-fs (`programs`), so that the figures do not rest on our own program alone.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { obtainDaxQemu } from "../kernel/dax-qemu.ts";
import { KernelError } from "../kernel/error.ts";
import { obtainGuest } from "../kernel/guest.ts";
import { slownessOf } from "../kernel/qemu.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { obtainVirtiofsd } from "../kernel/virtiofsd.ts";
import { packagePath } from "../paths.ts";
import type { RunDirectory } from "../run/directory.ts";
import { toolEnvironment } from "../run/tag.ts";
import { driverFigures } from "./virtiofsd-driver.ts";
import { type HeldMemory, heldMemory, MOUNT_OPTIONS } from "./virtiofsd-memory.ts";
import { type GuestPrograms, obtainGuestPrograms } from "./virtiofsd-programs.ts";
import {
  type DriverFigures,
  PLACES,
  type Place,
  rowNames,
  type Turn,
  turnIn,
  type VirtiofsdRow,
  virtiofsdRows,
  WARM_UP_ROUNDS,
} from "./virtiofsd-turns.ts";
import {
  BenchGuest,
  type GuestOptions,
  type PlaceServer,
  type Server,
  startServer,
  watchPeaks,
} from "./virtiofsd-vm.ts";

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
  /** Counted ones; 0: no guest does any. */
  readonly rounds: number;
  /** The counted rounds are by programs that others wrote; null: by ours. */
  readonly programs: {
    /** What find and tar walk, and the regular files in it; null: the small tree of our own program. */
    readonly tree: { readonly path: string; readonly files: number } | null;
  } | null;
  /** Without a guest, a turn. */
  readonly requests: number;
  /** Of those that hold a file, at once; 0: memory is not measured. */
  readonly guests: number;
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
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
  readonly treeFiles: number;
  /** Packages and versions of what did the work; null: our own program. */
  readonly programs: readonly string[] | null;
  readonly driver: DriverFigures;
  readonly rows: readonly VirtiofsdRow[];
  /** The most that each server had resident. */
  readonly peakRssBytes: Readonly<Record<Place, number>>;
  readonly memory: HeldMemory | null;
};

const RAM_MIB = 256;
/** A boot, and a turn, on a machine with KVM. */
const BOOT_MS = 15_000;
const TURN_MS = 10_000;
/** The same of a program of Debian's, or of tar in a whole tree. */
const PROGRAM_TURN_MS = 60_000;
/** Of what is read and written without a guest. */
const DRIVER_FILE_BYTES = 2 * 2 ** 20;
/** Of the tree: folders, files in each, and their sizes in turn; a source tree's. */
const TREE_FOLDERS = 8;
const TREE_FILES = 10;
const TREE_BYTES = [300, 2000, 6000, 14_000, 40_000] as const;
/** What Debian's find and tar walk. */
const WALKED = "source";

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

/** What the programs walk beside it. */
function addTree(folder: string, tree: string): void {
  cpSync(tree, join(folder, WALKED), { recursive: true, verbatimSymlinks: true });
}

/** The guest's program, static. Throws a KernelError. */
async function buildProgram(directory: string): Promise<Uint8Array> {
  const program = join(directory, "guest-files");
  const source = packagePath("harness/bench/guest-files.c");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static"];
  const built = await execa("gcc", [...flags, "-o", program, source], {
    env: toolEnvironment(directory),
    reject: false,
  });
  if (built.failed) throw new KernelError(`gcc ${source}: ${built.stderr || built.message}`);
  return readFileSync(program);
}

/** All turns, those that are not counted among them. Throws a KernelError that says at which one it ended. */
async function turnsOf(
  guest: BenchGuest,
  { rounds, programs, progress }: VirtiofsdOptions,
  slowness: number,
): Promise<readonly Turn[]> {
  await guest.said("the guest boots and mounts", BOOT_MS * slowness);
  const boundMs = (programs === null ? TURN_MS : PROGRAM_TURN_MS) * slowness;
  const turns: Turn[] = [];
  for (;;) {
    const what = `turn ${turns.length + 1}`;
    const line = await guest.said(what, boundMs);
    if (line === "@ done") break;
    const turn = turnIn(line);
    if (turn === null) throw new KernelError(`${what}: the guest says ${JSON.stringify(line)}`);
    turns.push(turn);
    progress(`${turn.row} on ${turn.place}, round ${turn.round + 1} of ${WARM_UP_ROUNDS + rounds}`);
  }
  const counted = turns.filter(({ round }) => round >= WARM_UP_ROUNDS).length;
  const wanted = rounds * rowNames.length * PLACES.length;
  if (counted !== wanted) throw new KernelError(`the guest did ${counted} turns that count, not ${wanted}`);
  return turns;
}

/** Throws a KernelError where a server does not listen, or does not answer as it should. */
async function withoutGuest(
  requests: number,
  how: { readonly peer: readonly string[]; readonly directory: string },
  progress: (text: string) => void,
): Promise<DriverFigures> {
  const servers: Server[] = [];
  try {
    for (const place of ["ours", "virtiofsd"] as const) {
      const source = join(how.directory, `driver-${place}`);
      fillFolder(source, DRIVER_FILE_BYTES);
      servers.push(await startServer(place, source, `driver-${place}`, how));
    }
    const [ours, theirs] = servers;
    if (ours === undefined || theirs === undefined) throw new KernelError("a server is missing");
    progress("both servers without a guest");
    return driverFigures({ ours, theirs }, requests);
  } catch (error) {
    if (error instanceof KernelError || !(error instanceof Error)) throw error;
    throw new KernelError(`without a guest: ${error.message}`);
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

/** The turns in the guest, and the most memory that each server had. Nothing where no round is asked for. */
async function inGuest(
  guestOptions: Omit<GuestOptions, "servers">,
  { peer, programs }: { readonly peer: readonly string[]; readonly programs: GuestPrograms | null },
  options: VirtiofsdOptions,
  slowness: number,
): Promise<{ readonly turns: readonly Turn[]; readonly peaks: Readonly<Record<Place, number>> }> {
  const servers: PlaceServer[] = [];
  const others: Server[] = [];
  let guest: BenchGuest | null = null;
  const watch = watchPeaks(servers);
  if (options.rounds === 0) {
    watch.stop();
    return { turns: [], peaks: watch.peaks };
  }
  const { directory } = guestOptions;
  try {
    for (const place of PLACES) {
      const source = join(directory, `source-${place}`);
      fillFolder(source, options.fileBytes);
      if (options.programs !== null) addTree(source, options.programs.tree?.path ?? join(source, "tree"));
      servers.push({ ...(await startServer(place, source, place, { peer, directory })), place });
    }
    if (programs !== null) {
      others.push(await startServer("tools", programs.folder, "tools", { peer, directory }));
    }
    options.progress("the guest boots");
    guest = new BenchGuest({ ...guestOptions, servers: [...servers, ...others] });
    const turns = await turnsOf(guest, options, slowness);
    watch.stop();
    return { turns, peaks: watch.peaks };
  } finally {
    watch.stop();
    await guest?.close();
    await Promise.all([...servers, ...others].map((server) => server.close()));
  }
}

/** Throws a KernelError where something cannot be had, or a guest did not come so far. */
export async function benchVirtiofsd(options: VirtiofsdOptions): Promise<VirtiofsdResult> {
  const { signal, progress, accelerator, fileBytes, files, operations, rounds, guests } = options;
  progress("QEMU, virtiofsd and the guest's kernel");
  const qemu = await obtainDaxQemu({ path: options.qemuPath, signal, progress });
  const peer = await obtainVirtiofsd(signal, progress);
  const programs = options.programs === null ? null : await obtainGuestPrograms(signal, progress);
  const directory = options.directory.caseDirectory("bench");
  const program = await buildProgram(directory);
  const slowness = slownessOf(accelerator);

  /** Its kernel and its program with these arguments, as files. */
  async function guestWith(
    name: string,
    programArguments: readonly string[],
  ): Promise<Pick<GuestOptions, "imagePath" | "initrdPath"> & { readonly origin: string }> {
    const asked = { spec: options.guestSpec, modulesDirectory: null, signal };
    const { kernel, image, pciInitrd } = await obtainGuest({ ...asked, program, programArguments });
    const [imagePath, initrdPath] = [join(directory, "image"), join(directory, `initrd-${name}`)];
    writeFileSync(imagePath, image);
    writeFileSync(initrdPath, pciInitrd);
    return { imagePath, initrdPath, origin: kernel.origin };
  }

  const driver = await withoutGuest(options.requests, { peer: peer.command, directory }, progress);
  const shared = { qemu: qemu.command, accelerator, ramMiB: RAM_MIB, directory, signal };
  const places = PLACES.map((place) => `${place}${MOUNT_OPTIONS[place]}`);
  const work = [
    programs === null ? "turns" : "programs",
    ...[WARM_UP_ROUNDS, rounds, files, operations].map(String),
    ...(programs?.folderNames ?? []),
    ...places,
  ];
  const { origin: guestKernel, ...kernelFiles } = await guestWith("turns", work);
  const { turns, peaks } = await inGuest(
    { ...shared, ...kernelFiles },
    { peer: peer.command, programs },
    options,
    slowness,
  );
  const memory =
    guests === 0
      ? null
      : await heldMemory({
          guests,
          guestOf: async (place) => ({
            ...shared,
            ...(await guestWith(place, ["hold", `${place}${MOUNT_OPTIONS[place]}`])),
          }),
          peer: peer.command,
          directory,
          boundMs: BOOT_MS * slowness,
          progress,
        });
  return {
    peer: peer.origin,
    qemu: `${qemu.origin}, ${qemu.version}`,
    accelerator,
    guestKernel,
    fileBytes,
    files,
    operations,
    rounds,
    treeFiles: options.programs?.tree?.files ?? TREE_FOLDERS * TREE_FILES,
    programs: programs?.origins ?? null,
    driver,
    rows: rounds === 0 ? [] : virtiofsdRows(turns),
    peakRssBytes: peaks,
    memory,
  };
}
