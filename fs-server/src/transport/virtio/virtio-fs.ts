/**
 * The virtio file system device (virtio 1.2, 5.11): FUSE sessions in chains.
 *
 * Queue 0 is for FORGET, the others for everything else; the device serves any message on any of them. Shared memory
 * region 0 is the DAX window, which the session's `DaxWindow` fills. The notification queue is not offered.
 */
import type { Session } from "../../core/session.ts";
import type { QueueRequest, SharedMemory, VirtioDevice } from "./device.ts";
import { ChainSink, MessageBuffers } from "./message.ts";

const TAG_BYTES = 36;
const CONFIG_BYTES = TAG_BYTES + 4;
/** 1 MiB of content in pages, with what goes around it; the Linux driver sizes its requests by this. */
const QUEUE_SIZE = 1024;

/** What the device needs of a session. */
export type FuseServer = Pick<Session, "handle" | "refuse" | "msUntilDue" | "handleDue" | "end">;

export type VirtioFsOptions = {
  readonly session: FuseServer;
  /** By which the guest mounts it; at most 36 bytes of UTF-8. */
  readonly tag: string;
  readonly requestQueues?: number;
  readonly queueSize?: number;
  /** Where the guest sees the session's DAX window. */
  readonly window?: SharedMemory;
};

/** struct virtio_fs_config. Throws a RangeError. */
export function virtioFsConfig(tag: string, requestQueues: number): Uint8Array {
  const name = Buffer.from(tag);
  if (name.length === 0 || name.length > TAG_BYTES || name.includes(0)) {
    throw new RangeError(`tag ${JSON.stringify(tag)}: expected 1 to ${TAG_BYTES} bytes`);
  }
  if (!Number.isInteger(requestQueues) || requestQueues < 1) {
    throw new RangeError(`${requestQueues} request queues: expected 1 or more`);
  }
  const config = new Uint8Array(CONFIG_BYTES);
  config.set(name);
  new DataView(config.buffer).setUint32(TAG_BYTES, requestQueues, true);
  return config;
}

export class VirtioFs implements VirtioDevice {
  readonly id = 26;
  readonly features = 0n;
  readonly config: Uint8Array;
  readonly queueSizes: readonly number[];
  readonly sharedMemory: readonly SharedMemory[];
  readonly #session: FuseServer;
  readonly #buffers = new MessageBuffers();

  constructor({ session, tag, requestQueues = 1, queueSize = QUEUE_SIZE, window }: VirtioFsOptions) {
    this.config = virtioFsConfig(tag, requestQueues);
    this.queueSizes = Array<number>(1 + requestQueues).fill(queueSize);
    this.sharedMemory = window === undefined ? [] : [window];
    this.#session = session;
  }

  serve(_queue: number, request: QueueRequest): void {
    const { spans, fault } = this.#buffers.receive(request);
    const sink = new ChainSink(request, this.#buffers.frame);
    const result =
      fault === null ? this.#session.handle(spans, sink) : this.#session.refuse(spans, sink, fault);
    // The sink completes what is answered, now or later.
    if (result.kind !== "answered" && result.kind !== "postponed") request.complete(0);
  }

  msUntilDue(): number | null {
    return this.#session.msUntilDue();
  }

  handleDue(): void {
    this.#session.handleDue();
  }

  reset(): void {
    this.#session.end();
  }
}
