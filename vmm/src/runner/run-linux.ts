/**
 * Runs a Linux machine: its console as lines, its devices' registers and interrupt lines, and the vCPUs' messages by kind.
 * Not here: when to stop, which the caller decides.
 */
import { setInterruptLine } from "../arch/index.ts";
import { DOORBELL, type RegisterAccess } from "../linux-devices.ts";
import type { LinuxMachine } from "../linux-machine.ts";
import { type MachineHandlers, type MachineRun, runMachine } from "./run-machine.ts";
import type { VmRunnerOptions } from "./vm-runner.ts";

/** Of a console line; what is longer comes in pieces. */
const MAX_LINE_CHARACTERS = 4096;

export type LinuxRun = MachineRun & {
  /** Sets the devices' interrupt lines as they ask for: after a device has changed by itself. */
  readonly updateInterrupts: () => void;
};

export type LinuxHandlers = Omit<MachineHandlers, "console" | "mmio"> & {
  /** A line of the console, without its end. */
  readonly line?: (line: string) => void;
  /** The guest's program has written to the doorbell port; the vCPU goes on when this is done. */
  readonly doorbell?: (value: number) => void | Promise<void>;
  /** A vCPU goes on that has waited for a device, or for the doorbell. */
  readonly served?: () => void;
};

class Lines {
  #rest = "";
  readonly #onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  feed(bytes: Uint8Array): void {
    const parts = (this.#rest + Buffer.from(bytes).toString("latin1")).split("\n");
    this.#rest = parts.pop() ?? "";
    for (const part of parts) this.#onLine(part.replace(/\r+$/, ""));
    if (this.#rest.length > MAX_LINE_CHARACTERS) this.flush();
  }

  flush(): void {
    if (this.#rest === "") return;
    this.#onLine(this.#rest);
    this.#rest = "";
  }
}

async function answerTo(
  machine: LinuxMachine,
  { device, offset, size, value }: RegisterAccess,
  { doorbell }: LinuxHandlers,
): Promise<bigint> {
  if (device === DOORBELL) {
    await doorbell?.(Number(value));
    return 0n;
  }
  const registers = machine.devices[device]?.device;
  if (value === null) return registers?.read(offset, size) ?? 0n;
  registers?.write(offset, size, value);
  return 0n;
}

export function runLinux(
  machine: LinuxMachine,
  handlers: LinuxHandlers,
  options: VmRunnerOptions = {},
): LinuxRun {
  const lines = new Lines(handlers.line ?? (() => {}));
  const levels = machine.devices.map((): 0 | 1 => 0);
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const updateInterrupts = (): void => {
    for (const [index, { device, gsi }] of machine.devices.entries()) {
      const level = device.irqPending() ? 1 : 0;
      if (level === levels[index]) continue;
      levels[index] = level;
      setInterruptLine(machine.vm.fd, gsi, level);
    }
  };
  /** What devices have to do beside an access, and when next. */
  const work = (): void => {
    clearTimeout(timer);
    if (isOver) return;
    const waits = machine.devices.map(({ device }) => device.work?.() ?? null).filter((ms) => ms !== null);
    updateInterrupts();
    if (waits.length > 0) timer = setTimeout(work, Math.min(...waits));
  };
  const run = runMachine(
    machine,
    {
      ...handlers,
      console: () => lines.feed(machine.console.take()),
      async mmio({ cpu }) {
        const mailbox = machine.mailboxes[cpu];
        const asked = mailbox?.asked() ?? null;
        if (mailbox === undefined || asked === null) return;
        const value = await answerTo(machine, asked, handlers);
        work();
        mailbox.answer(value);
        handlers.served?.();
      },
      ended(message) {
        isOver = true;
        clearTimeout(timer);
        lines.feed(machine.console.take());
        lines.flush();
        handlers.ended?.(message);
      },
    },
    options,
  );
  return { ...run, updateInterrupts };
}
