/**
 * A QEMU with a DAX window for virtio-fs: one that has `vhost-user-test-device-pci` and VIRTIO Shared Memory Regions (upstream
 * from 11.1 on). The user's, that on PATH, or Debian's of backports unpacked into the cache with all its libraries and started
 * by their own loader, so that nothing is installed. The features are looked at, never the version.
 *
 * Not here: how a guest is started with it (engines/linux/qemu); the QEMU that boots kernels under test (qemu.ts).
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { DaxQemu } from "../engine.ts";
import { errorText } from "../error-text.ts";
import { KernelError } from "./error.ts";
import type { Progress } from "./store.ts";
import { obtainProgram } from "./unpacked-program.ts";

const PROGRAM = "qemu-system-x86_64";
const PACKAGE = "qemu-system-x86";
/** Where the archive has the newest QEMU for the stable distribution. */
const SUITE = "stable-backports";
const WINDOW_DEVICE = "vhost-user-test-device-pci";
/** An option of that device in `-device DEVICE,help`. */
const DEVICE_OPTION = "num_vqs=";
/** The name that QEMU has for the feature of the protocol, in the program itself: no option of QEMU's lists features of vhost-user. */
const SHMEM_FEATURE = "VHOST_USER_PROTOCOL_F_SHMEM";
const ASK_BOUND_MS = 20_000;

/** The device of virtio-fs (virtio 1.2, 5.11): its number, and `struct virtio_fs_config`, a tag of 36 bytes and a count. */
const VIRTIO_FS_ID = 26;
const CONFIG_BYTES = 40;
/** FORGET and all else. */
const QUEUES = 2;

/** The value of `-chardev`: a server's socket. A comma in a path is doubled (QemuOpts). */
export function socketChardev(id: string, path: string): string {
  return `socket,id=${id},path=${path.replaceAll(",", ",,")}`;
}

/** The value of `-device`: virtio-fs with a DAX window, of the server at the chardev. */
export function windowDevice(chardev: string, queueSize: number): string {
  const device = `${WINDOW_DEVICE},chardev=${chardev},virtio-id=${VIRTIO_FS_ID},num_vqs=${QUEUES}`;
  return `${device},config_size=${CONFIG_BYTES},vq_size=${queueSize}`;
}

/** In the unpacked packages. */
const FIRMWARE = "usr/share/qemu";

/** How `command` answers; null: it does not run, or refuses. */
export type Ask = (args: readonly string[]) => string | null;

function asking(command: readonly string[]): Ask {
  const [program = "", ...first] = command;
  return (args) => {
    try {
      return execFileSync(program, [...first, ...args], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
        timeout: ASK_BOUND_MS,
      });
    } catch {
      return null;
    }
  };
}

/**
 * What a QEMU lacks for a DAX window; null: nothing.
 * @param text of the program; null where it is a script, which shows nothing
 */
export function lackOf(ask: Ask, text: Buffer | null): string | null {
  if (ask(["--version"]) === null) return `it does not run, or is no ${PROGRAM}`;
  const help = ask(["-device", `${WINDOW_DEVICE},help`]);
  if (help === null || !help.includes(DEVICE_OPTION)) return `it has no device ${WINDOW_DEVICE}`;
  if (text !== null && !text.includes(SHMEM_FEATURE)) {
    return `its ${WINDOW_DEVICE} has no VIRTIO Shared Memory Regions (${SHMEM_FEATURE})`;
  }
  return null;
}

function programText(path: string): Buffer | null {
  const bytes = readFileSync(path);
  return bytes.subarray(0, 4).equals(Buffer.from("\x7fELF", "latin1")) ? bytes : null;
}

type Candidate = {
  readonly command: readonly string[];
  readonly programPath: string;
  readonly origin: string;
};

function examined({ command, programPath, origin }: Candidate): DaxQemu | { readonly lack: string } {
  const ask = asking(command);
  let lack: string | null;
  try {
    lack = lackOf(ask, programText(programPath));
  } catch (error) {
    lack = errorText(error);
  }
  if (lack !== null) return { lack };
  const version = /version (\S+(?: \([^)]*\))?)/.exec(ask(["--version"]) ?? "")?.[1] ?? "unknown";
  return { command, version, origin };
}

function onPath(): string | null {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, PROGRAM);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  return null;
}

/** Debian's, in the cache; loaded if it is not there. Throws a KernelError. */
async function prepared(signal: AbortSignal, progress: Progress): Promise<Candidate> {
  const wanted = {
    name: PACKAGE,
    suites: ["stable", SUITE],
    suite: SUITE,
    programPath: `usr/bin/${PROGRAM}`,
    // `-L usr/share/qemu` has links to seabios.
    kept: [FIRMWARE, "usr/share/seabios"],
  };
  const { folder, programPath, command, origin } = await obtainProgram(wanted, signal, progress);
  return { command: [...command, "-L", join(folder, FIRMWARE)], programPath, origin };
}

export type DaxQemuAsked = {
  /** `--qemu PATH`; null: none was named. */
  readonly path: string | null;
  readonly signal: AbortSignal;
  readonly progress?: Progress;
};

/** Throws a KernelError that says what was looked at, and what each of them lacks. */
export async function obtainDaxQemu({ path, signal, progress = () => {} }: DaxQemuAsked): Promise<DaxQemu> {
  const lacks: string[] = [];
  const tried = (candidate: Candidate, name: string): DaxQemu | null => {
    const found = examined(candidate);
    if (!("lack" in found)) return found;
    lacks.push(`${name}: ${found.lack}`);
    return null;
  };
  const own = path ?? onPath();
  if (own !== null) {
    const found = tried({ command: [own], programPath: own, origin: own }, own);
    if (found !== null) return found;
    if (path !== null) throw new KernelError(`--qemu ${lacks.join("; ")}`);
  }
  try {
    const found = tried(await prepared(signal, progress), `Debian's ${PACKAGE} of ${SUITE}`);
    if (found !== null) return found;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    lacks.push(`Debian's ${PACKAGE} of ${SUITE}: ${error.message}`);
  }
  throw new KernelError(`no QEMU with a DAX window is at hand (--qemu PATH names one): ${lacks.join("; ")}`);
}
