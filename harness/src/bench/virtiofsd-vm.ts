/**
 * What `bench virtiofsd` starts: servers that listen, and guests in QEMU with a virtio-fs of each. Every wait has a bound, and says
 * of what.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { onAbort } from "../abort.ts";
import { lastWords } from "../error-text.ts";
import { socketChardev, windowDevice } from "../kernel/dax-qemu.ts";
import { KernelError } from "../kernel/error.ts";
import { builtPath } from "../paths.ts";
import { childEnvironment } from "../run/tag.ts";
import { within } from "../within.ts";
import type { Place } from "./virtiofsd-turns.ts";

const WINDOW_MIB = 64;
const QUEUE_SIZE = 512;
const READY_BOUND_MS = 60_000;
const END_BOUND_MS = 5000;
const COMMAND_LINE =
  "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr reboot=k random.trust_cpu=on";
/** Of a guest that ended early. */
const LAST_LINES = 5;
const WORDS_CHARACTERS = 4096;

type Child = ReturnType<typeof startChild>;

function startChild(command: readonly string[], directory: string, input: "ignore" | "pipe") {
  const [program = "", ...args] = command;
  return execa(program, args, {
    cwd: directory,
    env: childEnvironment(directory),
    stdio: [input, "pipe", "pipe"],
    buffer: false,
    reject: false,
  });
}

/** A tag: where the guest works, or what has its programs. */
export type ServerPlace = Place | "tools";

export type Server = {
  readonly place: ServerPlace;
  readonly pid: number;
  readonly socketPath: string;
  close(): Promise<void>;
};

export type PlaceServer = Server & { readonly place: Place };

/** @param peer virtiofsd, and the arguments that come first */
function serverCommand(
  place: ServerPlace,
  source: string,
  socketPath: string,
  peer: readonly string[],
): readonly string[] {
  const common = ["--shared-dir", source, "--socket-path", socketPath, "--sandbox", "none"];
  if (place === "virtiofsd" || place === "tools") return [...peer, ...common];
  const window = place === "ours-dax" ? ["--tag", place, "--dax-window", `${WINDOW_MIB}M`] : [];
  const main = builtPath("fs-server/src/serve-main.ts");
  return [process.execPath, main, ...common, "--parent-pid", String(process.pid), ...window];
}

/** Waits until it listens. Throws a KernelError with its last words. */
export async function startServer(
  place: ServerPlace,
  source: string,
  name: string,
  { peer, directory }: { readonly peer: readonly string[]; readonly directory: string },
): Promise<Server> {
  const socketPath = join(directory, `${name}.sock`);
  const child = startChild(serverCommand(place, source, socketPath, peer), directory, "ignore");
  let words = "";
  let reached: () => void = () => undefined;
  const listens = new Promise<void>((resolve) => {
    reached = resolve;
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      words = (words + text).slice(-WORDS_CHARACTERS);
      // virtiofsd's word, and ours.
      if (/Waiting for vhost-user socket connection|"type":"ready"/.test(words)) reached();
    });
  }
  const close = async (): Promise<void> => {
    child.kill("SIGTERM");
    if (!(await within(child, END_BOUND_MS))) child.kill("SIGKILL");
    await child;
  };
  const isInTime = await within(Promise.race([listens, child]), READY_BOUND_MS);
  if (isInTime && child.exitCode === null && child.pid !== undefined)
    return { place, pid: child.pid, socketPath, close };
  await close();
  throw new KernelError(`${name} does not listen: ${lastWords(words)}`);
}

function deviceArguments({ place, socketPath }: Server): readonly string[] {
  const device =
    place === "ours-dax"
      ? windowDevice(place, QUEUE_SIZE)
      : `vhost-user-fs-pci,chardev=${place},tag=${place},queue-size=${QUEUE_SIZE}`;
  return ["-chardev", socketChardev(place, socketPath), "-device", device];
}

export type GuestOptions = {
  /** QEMU, and the arguments that come first. */
  readonly qemu: readonly string[];
  readonly accelerator: "kvm" | "tcg";
  readonly ramMiB: number;
  readonly imagePath: string;
  readonly initrdPath: string;
  /** One of each place at most. */
  readonly servers: readonly Server[];
  readonly directory: string;
  readonly signal: AbortSignal;
};

function qemuCommand({
  qemu,
  accelerator,
  ramMiB,
  imagePath,
  initrdPath,
  servers,
}: GuestOptions): readonly string[] {
  const [accel, cpu] = accelerator === "kvm" ? ["kvm", "host"] : ["tcg,thread=multi", "max"];
  return [
    ...qemu,
    ...["-accel", accel, "-cpu", cpu, "-smp", "1", "-m", `${ramMiB}M`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-run-with", "exit-with-parent=on"],
    ...["-object", `memory-backend-memfd,id=ram,size=${ramMiB}M,share=on`],
    ...["-machine", "q35,memory-backend=ram"],
    ...["-serial", "stdio", "-kernel", imagePath, "-initrd", initrdPath, "-append", COMMAND_LINE],
    ...servers.flatMap(deviceArguments),
  ];
}

/** A guest whose program speaks in lines that begin with `@`. */
export class BenchGuest {
  readonly #child: Child;
  readonly #stopListening: () => void;
  readonly #signal: AbortSignal;
  readonly #words: string[] = [];
  /** Of the console and of QEMU, what is none. */
  readonly #others: string[] = [];
  #isAtEnd = false;
  #changed: () => void = () => undefined;

  constructor(options: GuestOptions) {
    this.#signal = options.signal;
    this.#child = startChild(qemuCommand(options), options.directory, "pipe");
    // It has gone: `said` says so.
    this.#child.stdin?.on("error", () => undefined);
    if (this.#child.stdout !== null)
      createInterface(this.#child.stdout).on("line", (line) => this.#hear(line.trim()));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#hear(text.trim()));
    this.#stopListening = onAbort(options.signal, () => void this.#child.kill("SIGKILL"));
    void this.#child.then(() => {
      this.#isAtEnd = true;
      this.#changed();
    });
  }

  #hear(line: string): void {
    if (line.startsWith("@ ")) this.#words.push(line);
    else if (line !== "") this.#others.push(line);
    this.#changed();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What its program says next. Throws a KernelError where nothing comes in that time. */
  async said(what: string, boundMs: number): Promise<string> {
    const deadlineMs = performance.now() + boundMs;
    for (;;) {
      const word = this.#words.shift();
      if (word !== undefined) return word;
      this.#signal.throwIfAborted();
      const leftMs = deadlineMs - performance.now();
      if (this.#isAtEnd || leftMs <= 0) {
        const how = this.#isAtEnd ? "the guest ended early" : `the guest was silent for ${boundMs} ms`;
        throw new KernelError(`${what}: ${how}: ${this.#others.slice(-LAST_LINES).join(" | ")}`);
      }
      await within(
        new Promise<void>((resolve) => {
          this.#changed = resolve;
        }),
        leftMs,
      );
    }
  }

  /** Its program goes on. */
  answer(): void {
    this.#child.stdin?.write("\n");
  }

  async close(): Promise<void> {
    this.#stopListening();
    this.#child.kill("SIGKILL");
    await this.#child;
  }
}

/** The most that each server has had resident: read while they live, since they end with their VMM. */
export function watchPeaks(servers: readonly PlaceServer[]): {
  readonly peaks: Readonly<Record<Place, number>>;
  stop(): void;
} {
  const peaks = { ours: 0, virtiofsd: 0, "ours-dax": 0 } satisfies Record<Place, number>;
  const look = (): void => {
    for (const { place, pid } of servers) {
      try {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        const kib = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
        peaks[place] = Math.max(peaks[place], kib * 1024);
      } catch {
        // It has ended with its VMM.
      }
    }
  };
  const timer = setInterval(look, 1000);
  return {
    peaks,
    stop: () => {
      clearInterval(timer);
      look();
    },
  };
}
