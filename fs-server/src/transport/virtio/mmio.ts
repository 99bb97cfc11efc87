/**
 * A virtio device behind virtio-mmio registers: what a VMM calls for its MMIO exits.
 *
 * Requests are served where the driver notifies, on the caller's thread. The interrupt is a level: after each call the
 * VMM sets the line to `irqPending()`. What is left to do without an exit is done by `work`.
 */
import { DeviceQueues, type VirtioDevice } from "./device.ts";
import type { GuestMemory } from "./memory.ts";
import { INTERRUPT, MmioRegisters, STATUS } from "./registers.ts";

/** What a VMM needs of a device on its bus. */
export interface MmioDevice {
  read(offset: number, sizeBytes: number): bigint;
  write(offset: number, sizeBytes: number, value: bigint): void;
  irqPending(): boolean;
}

/** Bytes of guest physical address space that the registers take. */
export const MMIO_BYTES = 0x1000;

export class VirtioMmio implements MmioDevice {
  readonly #device: VirtioDevice;
  readonly #registers: MmioRegisters;
  readonly #queues: DeviceQueues;
  /** Queues that had more available than one notification serves. */
  readonly #unfinished = new Set<number>();

  /** @param onFault how the guest broke a queue; the device needs a reset from then on */
  constructor(
    device: VirtioDevice,
    memory: GuestMemory,
    onFault: (reason: string) => void = () => undefined,
  ) {
    this.#device = device;
    this.#registers = new MmioRegisters(device);
    this.#queues = new DeviceQueues(device, memory, {
      onUsed: () => this.#registers.interrupt(INTERRUPT.used),
      onFault: (reason) => {
        this.#registers.needsReset();
        this.#unfinished.clear();
        onFault(reason);
      },
    });
  }

  read(offset: number, sizeBytes: number): bigint {
    return this.#registers.read(offset, sizeBytes);
  }

  write(offset: number, sizeBytes: number, value: bigint): void {
    const effect = this.#registers.write(offset, sizeBytes, value);
    switch (effect.kind) {
      case "none":
        return;
      case "reset":
        this.#queues.stopAll();
        this.#unfinished.clear();
        this.#device.reset();
        return;
      case "queue-start":
        this.#queues.start(effect.queue, effect.layout, { indirect: effect.indirect });
        return;
      case "queue-stop":
        this.#queues.stop(effect.queue);
        this.#unfinished.delete(effect.queue);
        return;
      case "notify":
        this.#serve(effect.queue);
        return;
      default:
        effect satisfies never;
    }
  }

  irqPending(): boolean {
    return this.#registers.interrupts !== 0;
  }

  /** Whether the guest broke the device, and has not reset it yet. */
  get needsReset(): boolean {
    return (this.#registers.status & STATUS.needsReset) !== 0;
  }

  /** Does what is due. Returns the milliseconds until there is more to do, or null if only an exit can bring it. */
  work(): number | null {
    for (const queue of [...this.#unfinished]) this.#serve(queue);
    this.#device.handleDue();
    return this.#unfinished.size > 0 ? 0 : this.#device.msUntilDue();
  }

  #serve(queue: number): void {
    if (this.#queues.serve(queue)) this.#unfinished.add(queue);
    else this.#unfinished.delete(queue);
  }
}
