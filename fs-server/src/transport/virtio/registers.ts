/**
 * The registers of a virtio-mmio device, version 2 (virtio 1.2, 4.2.2), as a state machine: no memory, no queues, no
 * interrupts of its own. A write returns what its owner has to do.
 *
 * Control registers are 32 bits wide and accessed as such (4.2.2.2); other accesses read zero and are ignored, as are
 * writes to what is read-only, reserved or legacy.
 */
import type { VirtioDevice } from "./device.ts";
import { type RingLayout, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from "./queue.ts";

export const REGISTER = {
  magic: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSelect: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSelect: 0x024,
  queueSelect: 0x030,
  queueSizeMax: 0x034,
  queueSize: 0x038,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAcknowledge: 0x064,
  status: 0x070,
  queueDescriptors: 0x080,
  queueDriver: 0x090,
  queueDevice: 0x0a0,
  sharedMemorySelect: 0x0ac,
  sharedMemoryLength: 0x0b0,
  sharedMemoryBase: 0x0b8,
  configGeneration: 0x0fc,
  config: 0x100,
} as const;

const HIGH = 4;
const MAGIC = 0x74726976;
const VERSION = 2;
/** "DAXF". */
const VENDOR = 0x46584144;

export const STATUS = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const;
const DRIVERS_STATUS_BITS =
  STATUS.acknowledge | STATUS.driver | STATUS.driverOk | STATUS.featuresOk | STATUS.failed;

export const INTERRUPT = { used: 1, configuration: 2 } as const;

/** What the owner of the registers has to do after a write. */
export type RegisterEffect =
  | { readonly kind: "none" }
  | { readonly kind: "reset" }
  | {
      readonly kind: "queue-start";
      readonly queue: number;
      readonly layout: RingLayout;
      readonly indirect: boolean;
    }
  | { readonly kind: "queue-stop"; readonly queue: number }
  | { readonly kind: "notify"; readonly queue: number };

const NONE: RegisterEffect = { kind: "none" };

type QueueRegisters = {
  size: number;
  ready: boolean;
  descriptors: bigint;
  available: bigint;
  used: bigint;
};

type Address = "descriptors" | "available" | "used";
const ADDRESS_AT: ReadonlyMap<number, Address> = new Map([
  [REGISTER.queueDescriptors, "descriptors"],
  [REGISTER.queueDriver, "available"],
  [REGISTER.queueDevice, "used"],
]);

export class MmioRegisters {
  readonly #device: VirtioDevice;
  readonly #offered: bigint;
  #status = 0;
  #interrupts = 0;
  #deviceFeaturesSelect = 0;
  #driverFeaturesSelect = 0;
  #driverFeatures = 0n;
  #queueSelect = 0;
  #sharedMemorySelect = 0;
  #queues: QueueRegisters[];

  constructor(device: VirtioDevice) {
    this.#device = device;
    this.#offered = device.features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    this.#queues = device.queueSizes.map(() => unusedQueue());
  }

  get status(): number {
    return this.#status;
  }

  get interrupts(): number {
    return this.#interrupts;
  }

  /** A cause of an interrupt, an `INTERRUPT` bit. */
  interrupt(cause: number): void {
    this.#interrupts |= cause;
  }

  /** The device is in error until the driver resets it (2.1.2). */
  needsReset(): void {
    this.#status |= STATUS.needsReset;
    if ((this.#status & STATUS.driverOk) !== 0) this.interrupt(INTERRUPT.configuration);
  }

  read(offset: number, sizeBytes: number): bigint {
    if (offset >= REGISTER.config) return this.#readConfig(offset - REGISTER.config, sizeBytes);
    if (sizeBytes !== 4 || offset % 4 !== 0) return 0n;
    return BigInt.asUintN(32, this.#register(offset));
  }

  write(offset: number, sizeBytes: number, value: bigint): RegisterEffect {
    if (sizeBytes !== 4 || offset % 4 !== 0) return NONE;
    return this.#written(offset, Number(BigInt.asUintN(32, value)));
  }

  #register(offset: number): bigint {
    switch (offset) {
      case REGISTER.magic:
        return BigInt(MAGIC);
      case REGISTER.version:
        return BigInt(VERSION);
      case REGISTER.deviceId:
        return BigInt(this.#device.id);
      case REGISTER.vendorId:
        return BigInt(VENDOR);
      case REGISTER.deviceFeatures:
        // Shifted out for every other selector than 0 and 1.
        return this.#offered >> (32n * BigInt(this.#deviceFeaturesSelect));
      case REGISTER.queueSizeMax:
        return BigInt(this.#device.queueSizes[this.#queueSelect] ?? 0);
      case REGISTER.queueReady:
        return this.#queue?.ready === true ? 1n : 0n;
      case REGISTER.interruptStatus:
        return BigInt(this.#interrupts);
      case REGISTER.status:
        return BigInt(this.#status);
      case REGISTER.sharedMemoryLength:
        return this.#sharedMemory.lengthBytes;
      case REGISTER.sharedMemoryLength + HIGH:
        return this.#sharedMemory.lengthBytes >> 32n;
      case REGISTER.sharedMemoryBase:
        return this.#sharedMemory.gpa;
      case REGISTER.sharedMemoryBase + HIGH:
        return this.#sharedMemory.gpa >> 32n;
      default:
        // Write-only, reserved, legacy; and the generation of a configuration that never changes.
        return 0n;
    }
  }

  /** Registers that only hold a value change here; those that act are in `#acted`. */
  #written(offset: number, value: number): RegisterEffect {
    switch (offset) {
      case REGISTER.deviceFeaturesSelect:
        this.#deviceFeaturesSelect = value;
        return NONE;
      case REGISTER.driverFeaturesSelect:
        this.#driverFeaturesSelect = value;
        return NONE;
      case REGISTER.queueSelect:
        this.#queueSelect = value;
        return NONE;
      case REGISTER.sharedMemorySelect:
        this.#sharedMemorySelect = value;
        return NONE;
      case REGISTER.interruptAcknowledge:
        this.#interrupts &= ~value;
        return NONE;
      case REGISTER.driverFeatures:
        this.#acceptFeatures(value);
        return NONE;
      default:
        return this.#acted(offset, value);
    }
  }

  #acted(offset: number, value: number): RegisterEffect {
    switch (offset) {
      case REGISTER.status:
        return this.#setStatus(value);
      case REGISTER.queueNotify:
        return this.#notify(value);
      case REGISTER.queueReady:
        return this.#setReady(value);
      default:
        this.#configureQueue(offset, value);
        return NONE;
    }
  }

  get #queue(): QueueRegisters | undefined {
    return this.#queues[this.#queueSelect];
  }

  /** A region that is not there has length and base -1. */
  get #sharedMemory(): { readonly gpa: bigint; readonly lengthBytes: bigint } {
    return this.#device.sharedMemory[this.#sharedMemorySelect] ?? { gpa: -1n, lengthBytes: -1n };
  }

  /** Features are settled with FEATURES_OK (3.1.1). */
  #acceptFeatures(value: number): void {
    if ((this.#status & STATUS.featuresOk) !== 0 || this.#driverFeaturesSelect > 1) return;
    const shift = 32n * BigInt(this.#driverFeaturesSelect);
    const others = this.#driverFeatures & (0xffff_ffffn << (32n - shift));
    this.#driverFeatures = others | (BigInt(value) << shift);
  }

  get #areFeaturesValid(): boolean {
    const accepted = this.#driverFeatures;
    return (accepted & ~this.#offered) === 0n && (accepted & VIRTIO_F_VERSION_1) !== 0n;
  }

  /** Zero resets; other bits are only ever added (2.1.1), and the device refuses FEATURES_OK by not setting it. */
  #setStatus(value: number): RegisterEffect {
    if (value === 0) {
      this.#reset();
      return { kind: "reset" };
    }
    let added = value & DRIVERS_STATUS_BITS;
    if (!this.#areFeaturesValid) added &= ~STATUS.featuresOk;
    this.#status |= added & ~STATUS.driverOk;
    if ((this.#status & STATUS.featuresOk) !== 0) this.#status |= added & STATUS.driverOk;
    return NONE;
  }

  #reset(): void {
    this.#status = 0;
    this.#interrupts = 0;
    this.#deviceFeaturesSelect = 0;
    this.#driverFeaturesSelect = 0;
    this.#driverFeatures = 0n;
    this.#queueSelect = 0;
    this.#sharedMemorySelect = 0;
    this.#queues = this.#device.queueSizes.map(() => unusedQueue());
  }

  #is(required: number): boolean {
    return (this.#status & required) === required && (this.#status & STATUS.needsReset) === 0;
  }

  #notify(queue: number): RegisterEffect {
    const isLive = this.#is(STATUS.driverOk) && this.#queues[queue]?.ready === true;
    return isLive ? { kind: "notify", queue } : NONE;
  }

  #setReady(value: number): RegisterEffect {
    const queue = this.#queue;
    if (queue === undefined) return NONE;
    if (value === 0) {
      queue.ready = false;
      return { kind: "queue-stop", queue: this.#queueSelect };
    }
    if (value !== 1 || queue.ready || !this.#is(STATUS.featuresOk)) return NONE;
    queue.ready = true;
    const { size, descriptors, available, used } = queue;
    return {
      kind: "queue-start",
      queue: this.#queueSelect,
      layout: { size, descriptors, available, used },
      indirect: (this.#driverFeatures & VIRTIO_F_INDIRECT_DESC) !== 0n,
    };
  }

  /** Where a queue lies is fixed while it is ready. A size above the largest stays 0, with which it cannot start. */
  #configureQueue(offset: number, value: number): void {
    const queue = this.#queue;
    if (queue === undefined || queue.ready) return;
    if (offset === REGISTER.queueSize) {
      const largest = this.#device.queueSizes[this.#queueSelect] ?? 0;
      queue.size = value <= largest ? value : 0;
      return;
    }
    const low = ADDRESS_AT.get(offset);
    if (low !== undefined) queue[low] = (queue[low] & 0xffff_ffff_0000_0000n) | BigInt(value);
    const high = ADDRESS_AT.get(offset - HIGH);
    if (high !== undefined) queue[high] = (queue[high] & 0xffff_ffffn) | (BigInt(value) << 32n);
  }

  /** Little-endian, any width (4.2.2.2); zero behind the end. */
  #readConfig(at: number, sizeBytes: number): bigint {
    let value = 0n;
    for (let i = sizeBytes - 1; i >= 0; i -= 1) {
      value = (value << 8n) | BigInt(this.#device.config[at + i] ?? 0);
    }
    return value;
  }
}

function unusedQueue(): QueueRegisters {
  return { size: 0, ready: false, descriptors: 0n, available: 0n, used: 0n };
}
