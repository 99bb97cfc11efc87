/**
 * A VM that boots a kernel and runs one program of the host's in it, with a channel for messages. The caller chooses the
 * program: this layer knows kernels, QEMU and consoles, no cases.
 *
 * QEMU is a child with the run's tag: it ends with the run, however that ends (run/sweep.ts).
 */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { execa } from "execa";
import { makeSwapImage } from "../../../sys/src/index.ts";
import { errorText, lastWords } from "../error-text.ts";
import { childEnvironment } from "../run/tag.ts";
import { within } from "../within.ts";
import { builtInit } from "./built-init.ts";
import { Console, type Crash } from "./console.ts";
import { KernelError } from "./error.ts";
import { encodeFrame, FrameReader } from "./frames.ts";
import { type GuestProgram, initramfs, modulesFor } from "./initramfs.ts";
import { type Accelerator, guestCpus, MEMORY_MIB, type Qemu, qemuArguments, qemuProgram } from "./qemu.ts";
import type { Kernel } from "./store.ts";

const SCRATCH_BYTES = 512 * 1024 * 1024;
/** Most of it must stay free: else the kernel gives a page's place up as soon as the page is back (vm_swap_full()). */
const SWAP_BYTES = 64 * 1024 * 1024;
const MKFS_BOUND_MS = 30_000;
const REAP_BOUND_MS = 3000;
const CHANNEL_FD = 3;

/** The environment variables that a program inside gets. */
export const insideEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
};

export type KernelVmOptions = {
  readonly kernel: Kernel;
  readonly qemu: Qemu;
  readonly program: GuestProgram;
  /** An empty folder inside the run's. */
  readonly directory: string;
  readonly onMessage: (message: unknown) => void;
  /**
   * Left out: as many as help (`guestCpus`). One where a guest with interrupts runs inside: QEMU's emulator delivers an
   * event that KVM has injected a second time when another emulated CPU's turn comes just then.
   */
  readonly cpus?: number;
};

/** How a VM ended. */
export type VmEnd = {
  /** One sentence. */
  readonly message: string;
  /** The kernel's message when it died; null if it did not. */
  readonly crash: Crash | null;
};

export type KernelVm = {
  readonly bootId: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** To the program. Ignored once the VM has gone. */
  send(message: object): void;
  readonly ended: Promise<VmEnd>;
  /** The whole output of the console. */
  console(): readonly string[];
  /** The kernel's complaints so far. */
  crash(): Crash | null;
  kill(): Promise<void>;
};

/** A disk of ext4 that takes no room until it is used; null where there is no mkfs.ext4. */
function makeScratchDisk(path: string): string | null {
  try {
    const fd = openSync(path, "wx");
    ftruncateSync(fd, SCRATCH_BYTES);
    closeSync(fd);
    // Not in every user's PATH.
    const env = { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
    const options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", path];
    execFileSync("mkfs.ext4", options, { env, stdio: "ignore", timeout: MKFS_BOUND_MS });
    return path;
  } catch {
    rmSync(path, { force: true });
    return null;
  }
}

function makeSwapDisk(path: string): string {
  makeSwapImage(path, SWAP_BYTES);
  return path;
}

function writeInitramfs({ kernel, qemu, program, directory }: KernelVmOptions): string {
  const path = join(directory, "initramfs.cpio");
  const modules = modulesFor(kernel.modules, qemu.kvmModule);
  const bytes = initramfs({ init: builtInit(), modules, program });
  try {
    writeFileSync(path, bytes);
  } catch (error) {
    throw new KernelError(`the first root file system of ${kernel.name}: ${errorText(error)}, ${path}`);
  }
  return path;
}

type Exit = {
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly stderr: string;
};

/** How QEMU ended, where this process did not end it. Our init prints a line before it turns the machine off. */
function endOf(result: Exit, console: Console): VmEnd {
  const { crash, initComplaint, lastLine } = console;
  if (crash !== null) return { message: `the kernel died: ${crash.text}`, crash };
  if (initComplaint !== null) return { message: initComplaint, crash: null };
  const last = lastLine === null ? "the kernel said nothing" : `last on the console: ${lastLine.trim()}`;
  if (result.exitCode === 0) {
    const text = `the machine was reset without a word, as by a triple fault; ${last}`;
    return { message: `the kernel died: ${text}`, crash: { kind: "reset", text } };
  }
  const exit =
    result.signal === undefined
      ? `QEMU ended with ${result.exitCode}`
      : `QEMU was killed by ${result.signal}`;
  const said = lastWords(result.stderr);
  return { message: said === "" ? `${exit}; ${last}` : `${exit}: ${said}`, crash: null };
}

/** Starts the VM; returns at once. Throws a KernelError where it cannot even be tried. */
export function startKernelVm(options: KernelVmOptions): KernelVm {
  const { kernel, qemu, directory } = options;
  const bootId = randomUUID();
  const cpus = options.cpus ?? guestCpus();
  const initramfsPath = writeInitramfs(options);
  const args = qemuArguments({
    accelerator: qemu.accelerator satisfies Accelerator,
    imagePath: kernel.imagePath,
    initramfsPath,
    scratchPath: makeScratchDisk(join(directory, "scratch.img")),
    swapPath: makeSwapDisk(join(directory, "swap.img")),
    cpus,
    memoryMiB: MEMORY_MIB,
    bootId,
    channelFd: CHANNEL_FD,
  });
  const console = new Console();
  const subprocess = execa(qemuProgram, args, {
    cwd: directory,
    env: childEnvironment(directory),
    // A pipe to a child is a socket to both: QEMU takes its end as a character device.
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    buffer: { stdout: false, stderr: true, fd3: false },
    reject: false,
  });
  subprocess.stdout?.setEncoding("latin1");
  subprocess.stdout?.on("data", (text: string) => {
    console.feed(text);
    if (console.isHalted) subprocess.kill("SIGKILL");
  });
  const channel = subprocess.stdio[CHANNEL_FD] as unknown as Duplex;
  let broken: string | null = null;
  const reader = new FrameReader(options.onMessage);
  channel.on("data", (piece: Uint8Array) => {
    try {
      reader.feed(piece);
    } catch (error) {
      // The boundaries of later messages are lost.
      broken = `the channel is out of step: ${errorText(error)}`;
      subprocess.kill("SIGKILL");
    }
  });
  channel.on("error", () => {}); // QEMU has gone: `ended` says so.
  const ended = subprocess.then((result): VmEnd => {
    const { exitCode, signal } = result;
    if (exitCode === undefined && signal === undefined) {
      return { message: `QEMU was not started: ${result.originalMessage ?? "unknown reason"}`, crash: null };
    }
    if (broken !== null) return { message: broken, crash: console.crash };
    return endOf({ exitCode, signal, stderr: String(result.stderr ?? "") }, console);
  });
  return {
    bootId,
    cpus,
    memoryMiB: MEMORY_MIB,
    send(message) {
      if (channel.writable) channel.write(encodeFrame(message));
    },
    ended,
    console: () => console.lines,
    crash: () => console.crash,
    async kill() {
      subprocess.kill("SIGKILL");
      await within(ended, REAP_BOUND_MS);
    },
  };
}
