/**
 * What a virtio device is, whatever carries its registers (virtio-mmio, vhost-user), and its queues at work.
 *
 * Belongs to one thread: the guest's vCPUs run beside it, but no second caller does.
 */
import type { GuestMemory } from "./memory.ts";
import { type Chain, RingFault, type RingLayout, SplitQueue } from "./queue.ts";

/** A shared memory region (virtio 1.2, 2.10), such as a DAX window. */
export type SharedMemory = { readonly gpa: bigint; readonly lengthBytes: bigint };

/** A chain that the device serves. `complete` gives it back, once; what comes later is ignored. */
export interface QueueRequest {
  readonly chain: Chain;
  /** The queue was taken away, or is broken: the chain's memory is the guest's again and must not be written. */
  readonly isRevoked: boolean;
  complete(usedBytes: number): void;
}

export interface VirtioDevice {
  /** Device type (virtio 1.2, 5). */
  readonly id: number;
  /** Feature bits of the device type; those of rings and transport are not its concern. */
  readonly features: bigint;
  /** Configuration space; read-only for the driver. */
  readonly config: Uint8Array;
  /** Largest size of each queue. */
  readonly queueSizes: readonly number[];
  /** By id. */
  readonly sharedMemory: readonly SharedMemory[];
  /** Serves a request of a queue; completes it now or later. */
  serve(queue: number, request: QueueRequest): void;
  /** Milliseconds until a request is due that was kept for later, or null. */
  msUntilDue(): number | null;
  /** Serves the requests that are due. */
  handleDue(): void;
  /** Back to the state before the driver came: no request is completed any more. */
  reset(): void;
}

export type QueueEvents = {
  /** Chains were given back and the driver wants to know. */
  readonly onUsed: () => void;
  /** The guest broke a queue: the device needs a reset. */
  readonly onFault: (reason: string) => void;
};

class ActiveRequest implements QueueRequest {
  readonly chain: Chain;
  readonly #owner: ActiveQueue;
  #isCompleted = false;

  constructor(owner: ActiveQueue, chain: Chain) {
    this.#owner = owner;
    this.chain = chain;
  }

  get isRevoked(): boolean {
    return this.#owner.isRevoked;
  }

  complete(usedBytes: number): void {
    if (this.#isCompleted || this.isRevoked) return;
    this.#isCompleted = true;
    this.#owner.completed(this.chain.head, usedBytes);
  }
}

class ActiveQueue {
  readonly ring: SplitQueue;
  readonly #onUsed: () => void;
  isRevoked = false;

  constructor(ring: SplitQueue, onUsed: () => void) {
    this.ring = ring;
    this.#onUsed = onUsed;
  }

  completed(head: number, usedBytes: number): void {
    this.ring.push(head, usedBytes);
    if (this.ring.wantsInterrupt()) this.#onUsed();
  }
}

/** The queues that the driver has set up. One that breaks stops them all. */
export class DeviceQueues {
  readonly #device: VirtioDevice;
  readonly #memory: GuestMemory;
  readonly #events: QueueEvents;
  readonly #queues = new Map<number, ActiveQueue>();

  constructor(device: VirtioDevice, memory: GuestMemory, events: QueueEvents) {
    this.#device = device;
    this.#memory = memory;
    this.#events = events;
  }

  start(index: number, layout: RingLayout, options: { readonly indirect: boolean }): void {
    this.#guarded(() => {
      this.stop(index);
      const ring = new SplitQueue(this.#memory, layout, options);
      this.#queues.set(index, new ActiveQueue(ring, this.#events.onUsed));
    });
  }

  stop(index: number): void {
    const queue = this.#queues.get(index);
    if (queue === undefined) return;
    queue.isRevoked = true;
    this.#queues.delete(index);
  }

  stopAll(): void {
    for (const index of [...this.#queues.keys()]) this.stop(index);
  }

  /**
   * Serves what is available in a queue, at most as many chains as it has entries: a guest that adds others meanwhile
   * cannot keep the device here. Returns whether there is more.
   */
  serve(index: number): boolean {
    const queue = this.#queues.get(index);
    if (queue === undefined) return false;
    this.#guarded(() => {
      for (let left = queue.ring.size; left > 0 && !queue.isRevoked; left -= 1) {
        const chain = queue.ring.pop();
        if (chain === null) return;
        this.#device.serve(index, new ActiveRequest(queue, chain));
      }
    });
    return !queue.isRevoked && queue.ring.hasMore();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof RingFault)) throw error;
      this.stopAll();
      this.#events.onFault(error.message);
    }
  }
}
