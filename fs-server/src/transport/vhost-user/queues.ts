/**
 * The queues of a device as one of several threads serves them: rings of its own over the same memory, and one position for all.
 *
 * Inside the gate (state.ts) throughout: memory and rings stay while a thread is there. A chain that was taken before its queue
 * was stopped, or memory was taken away, is revoked.
 */
import type { QueueRequest } from "../virtio/device.ts";
import { type Chain, RingFault, SplitQueue } from "../virtio/queue.ts";
import { GuestViews } from "./memory.ts";
import type { DeviceConfiguration, DeviceState, SharedPosition, SharedRing } from "./state.ts";

export type QueueEvents = {
  /** Chains of this queue were given back, and the driver wants to know. */
  readonly interrupt: (queue: number) => void;
  /** The guest broke this queue. */
  readonly broken: (queue: number, reason: string) => void;
};

class ServedQueue {
  readonly description: SharedRing;
  readonly #ring: SplitQueue;
  readonly #position: SharedPosition;
  readonly #state: DeviceState;

  constructor(ring: SplitQueue, description: SharedRing, state: DeviceState) {
    this.#ring = ring;
    this.description = description;
    this.#state = state;
    this.#position = state.position(description.index);
  }

  get isRevoked(): boolean {
    const { index, generation } = this.description;
    return this.#state.isBroken || this.#state.generation(index) !== generation;
  }

  get hasMore(): boolean {
    return this.#ring.hasMore();
  }

  take(): Chain | null {
    return this.#position.locked(() => this.#ring.pop());
  }

  /** Whether the driver wants an interrupt. */
  giveBack(head: number, usedBytes: number): boolean {
    this.#position.locked(() => this.#ring.push(head, usedBytes));
    return this.#ring.wantsInterrupt();
  }
}

class SharedRequest implements QueueRequest {
  readonly chain: Chain;
  readonly #queue: ServedQueue;
  readonly #interrupt: (queue: number) => void;
  #isCompleted = false;

  constructor(chain: Chain, queue: ServedQueue, interrupt: (queue: number) => void) {
    this.chain = chain;
    this.#queue = queue;
    this.#interrupt = interrupt;
  }

  get isRevoked(): boolean {
    return this.#queue.isRevoked;
  }

  complete(usedBytes: number): void {
    if (this.#isCompleted || this.isRevoked) return;
    this.#isCompleted = true;
    if (this.#queue.giveBack(this.chain.head, usedBytes)) this.#interrupt(this.#queue.description.index);
  }
}

export class ServedQueues {
  readonly #state: DeviceState;
  readonly #events: QueueEvents;
  readonly #views = new GuestViews();
  #epoch = -1;
  #queues: readonly ServedQueue[] = [];

  constructor(state: DeviceState, events: QueueEvents) {
    this.#state = state;
    this.#events = events;
  }

  /** The next request of any queue, FORGETs before others; null: there is none. */
  next(): QueueRequest | null {
    if (this.#state.epoch !== this.#epoch) this.#configure();
    if (this.#state.isBroken) return null;
    for (const queue of this.#queues) {
      if (!queue.hasMore || queue.isRevoked) continue;
      const chain = this.#guarded(queue.description.index, () => queue.take());
      if (chain !== null) return new SharedRequest(chain, queue, this.#events.interrupt);
    }
    return null;
  }

  /** Whether there is more, by one look: another thread may take it first. */
  get hasMore(): boolean {
    return !this.#state.isBroken && this.#queues.some((queue) => queue.hasMore && !queue.isRevoked);
  }

  #configure(): void {
    const { epoch, configuration } = this.#state.configuration();
    this.#epoch = epoch;
    this.#queues = this.#built(configuration);
  }

  #built({ regions, rings }: DeviceConfiguration): readonly ServedQueue[] {
    if (rings.length === 0) return [];
    const memory = this.#views.memoryOf(regions);
    return rings.flatMap((ring) => {
      const position = this.#state.position(ring.index);
      const queue = this.#guarded(
        ring.index,
        () => new SplitQueue(memory, ring, { indirect: ring.indirect, position }),
      );
      return queue === null ? [] : [new ServedQueue(queue, ring, this.#state)];
    });
  }

  #guarded<T>(index: number, work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof RingFault)) throw error;
      this.#state.isBroken = true;
      this.#events.broken(index, error.message);
      return null;
    }
  }
}
